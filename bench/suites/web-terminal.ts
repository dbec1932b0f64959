import type { Terminal } from "@xterm/xterm";
import type { Page } from "playwright-core";
import { openPage, startBrowser } from "../../test/web/browser.ts";
import type { Suite } from "../context.ts";
import { interleaved } from "../measure.ts";
import { root, type World } from "../world.ts";

/** What is typed: a shell echoes each at once, and the line is rubbed out before it is run. */
const key = "x";
/** A terminal's line that is rubbed out so often never wraps. */
const erase = "\u0015";

/**
 * From a key that is pressed until its sign has come back: in the browser, and in the command line's terminal. The
 * command line is done when its terminal has the bytes, whoever draws them; so is the first figure here, when the page's
 * terminal has the sign in its buffer. The second one goes on until the sign stands in the page: a frame of the display.
 */
export const webTerminal: Suite = {
  name: "web-terminal",
  pledges: [
    {
      ...{ id: "web-echo", text: "key press until the dashboard's terminal has its echo", unit: "ms" },
      ...{ better: "lower", against: "`wrenn shell` in a terminal", target: { times: 1.3 } },
    },
    {
      ...{ id: "web-echo-drawn", text: "key press until its echo stands in the page", unit: "ms", better: "lower" },
      against: "`wrenn shell` in a terminal, which draws nothing",
    },
  ],
  async run(context) {
    const world = await context.world();
    await using sandbox = await world.create();
    const browser = await startBrowser();
    const shell = await startShell(world, sandbox.id);
    try {
      const page = await openTerminal(await openPage(browser).then(({ page }) => page), world, sandbox.id);
      await page.locator(".xterm-helper-textarea").focus();
      const drawn: number[] = [];
      const sides = {
        web: async () => {
          const echo = await pageEcho(page);
          drawn.push(echo.drawn);
          return echo.parsed;
        },
        cli: () => shell.echo(),
      };
      const runs = context.runs(60);
      const found = await interleaved(sides, { runs, warmUps: 5 });
      const note =
        "until the terminal's buffer has the sign, as the command line's terminal has it; drawn a frame later";
      context.keep("web-echo", { values: found.web, baseline: found.cli, note });
      const frame = "with the page's own elements as screen, 60 frames a second";
      context.keep("web-echo-drawn", { values: drawn.slice(-runs), baseline: found.cli, note: frame });
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

/** Milliseconds on the page's own clock from the key event. */
type Echo = {
  /** Until the terminal has the sign in its buffer. */
  parsed: number;
  /** Until the sign is in the screen's elements. */
  drawn: number;
};

async function pageEcho(page: Page): Promise<Echo> {
  const timing = page.evaluate(echoInPage);
  await page.locator("html[data-listens]").waitFor({ state: "attached" });
  await page.keyboard.press(key);
  const echo = await timing;
  await page.keyboard.press("Control+u");
  await page.waitForTimeout(50);
  return echo;
}

/** Runs in the page. */
function echoInPage(): Promise<Echo> {
  const rows = document.querySelector(".xterm-rows")!;
  const { terminal } = document.querySelector<HTMLElement & { terminal: Terminal }>(":has(> .xterm)")!;
  const count = () => rows.textContent!.split("x").length;
  const inBuffer = () => {
    const { active } = terminal.buffer;
    return active
      .getLine(active.baseY + active.cursorY)!
      .translateToString(true)
      .split("x").length;
  };
  let [drawnBefore, parsedBefore, pressed, parsed] = [0, 0, 0, 0];
  const onKey = () => {
    delete document.documentElement.dataset.listens;
    [drawnBefore, parsedBefore, pressed] = [count(), inBuffer(), performance.now()];
  };
  addEventListener("keydown", onKey, { capture: true, once: true });
  document.documentElement.dataset.listens = "yes";
  const parsing = terminal.onWriteParsed(() => {
    if (pressed === 0 || inBuffer() <= parsedBefore) return;
    parsing.dispose();
    parsed = performance.now() - pressed;
  });
  return new Promise((resolve) => {
    const seen = new MutationObserver(() => {
      if (pressed === 0 || count() <= drawnBefore) return;
      seen.disconnect();
      resolve({ parsed, drawn: performance.now() - pressed });
    });
    seen.observe(rows, { subtree: true, childList: true, characterData: true });
  });
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
