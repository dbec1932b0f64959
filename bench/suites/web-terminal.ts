import type { Page } from "playwright-core";
import { openPage, startBrowser } from "../../test/web/browser.ts";
import type { Suite } from "../context.ts";
import { interleaved } from "../measure.ts";
import { root, type World } from "../world.ts";

/** What is typed: a shell echoes each at once, and the line is rubbed out before it is run. */
const key = "x";
/** A terminal's line that is rubbed out so often never wraps. */
const erase = "\u0015";

/** From a key that is pressed to its sign on the screen: in the browser, and in the command line's terminal. */
export const webTerminal: Suite = {
  name: "web-terminal",
  pledges: [
    {
      ...{ id: "web-echo", text: "key press to its echo in the dashboard's terminal", unit: "ms", better: "lower" },
      ...{ against: "`wrenn shell` in a terminal", target: { times: 1.3 } },
    },
  ],
  async run(context) {
    const world = await context.world();
    await using sandbox = await world.create();
    const browser = await startBrowser();
    const shell = await startShell(world, sandbox.id);
    try {
      const page = await openTerminal(await openPage(browser).then(({ page }) => page), world, sandbox.id);
      const sides = { web: () => pageEcho(page), cli: () => shell.echo() };
      const found = await interleaved(sides, { runs: context.runs(60), warmUps: 5 });
      const note = "in the browser until the sign stands in the page, with the page's own elements as screen";
      context.keep("web-echo", { values: found.web, baseline: found.cli, note });
    } finally {
      shell.end();
      await browser.close();
    }
  },
};

async function openTerminal(page: Page, { client }: World, id: string): Promise<Page> {
  // Without WebGL the screen is elements, whose change can be seen.
  await page.addInitScript(() => {
    const own = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (this: HTMLCanvasElement, kind: string, ...rest: unknown[]) {
      return kind.startsWith("webgl") ? null : own.call(this, kind as "2d", ...rest);
    } as typeof own;
    localStorage.removeItem("wrenn.terminal.read");
  });
  const { baseUrl } = await client.endpoint();
  const { url } = await client.request<{ url: string }>("POST", "/v1/auth/links");
  await page.goto(`${baseUrl}/sign-in${new URL(url).hash}`);
  await page.locator("[data-live=live]").waitFor();
  await page.goto(`${baseUrl}/sandboxes/${id}`);
  await page.locator("[data-terminal=open]").waitFor();
  await page.waitForFunction(() => /[$#]\s/.test(document.querySelector(".xterm-rows")?.textContent ?? ""));
  return page;
}

/** Milliseconds, on the page's own clock, from the key event to the sign in the screen's elements. */
async function pageEcho(page: Page): Promise<number> {
  const timing = page.evaluate(
    () =>
      new Promise<number>((resolve) => {
        const rows = document.querySelector(".xterm-rows")!;
        const count = () => rows.textContent!.split("x").length;
        let [before, pressed] = [count(), 0];
        const onKey = () => {
          [before, pressed] = [count(), performance.now()];
        };
        addEventListener("keydown", onKey, { capture: true, once: true });
        const seen = new MutationObserver(() => {
          if (pressed === 0 || count() <= before) return;
          seen.disconnect();
          resolve(performance.now() - pressed);
        });
        seen.observe(rows, { subtree: true, childList: true, characterData: true });
      }),
  );
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.press(key);
  const ms = await timing;
  await page.keyboard.press("Control+u");
  await page.waitForTimeout(50);
  return ms;
}

/** `wrenn shell` in a terminal of this process. */
async function startShell(world: World, id: string) {
  let text = "";
  let heard = () => {};
  const { baseUrl, apiKey } = await world.client.endpoint();
  const child = Bun.spawn([`${root}builds/wrenn`, "shell", id], {
    env: { ...process.env, WRENN_BASE_URL: baseUrl, WRENN_API_KEY: apiKey ?? "", TERM: "xterm-256color" },
    terminal: {
      cols: 80,
      rows: 24,
      data(_terminal, bytes) {
        text += new TextDecoder().decode(bytes);
        heard();
      },
    },
  });
  const until = (test: () => boolean) =>
    new Promise<void>((resolve) => {
      heard = () => test() && resolve();
      heard();
    });
  await until(() => /[$#] /.test(text));
  return {
    echo: async (): Promise<number> => {
      text = "";
      const started = performance.now();
      child.terminal!.write(key);
      await until(() => text.includes(key));
      const ms = performance.now() - started;
      child.terminal!.write(erase);
      await Bun.sleep(50);
      return ms;
    },
    end: () => child.kill(),
  };
}
