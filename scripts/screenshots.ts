/** Takes docs/screenshots/ anew: the dashboard in a real browser, on the whole system with real VMs. */
import { mkdir } from "node:fs/promises";
import type { Page } from "playwright-core";
import { repository, System } from "../test/support/system.ts";
import { openPage, startBrowser, terminalShows } from "../test/web/browser.ts";

const out = `${repository}docs/screenshots`;
const slow = { timeout: 120_000 };

async function signUp(page: Page, url: string): Promise<void> {
  await page.goto(`${url}/sign-up`);
  await page.getByLabel("Name").fill("Ann Lee");
  await page.getByLabel("E-mail").fill("ann@example.com");
  await page.getByLabel("Password", { exact: true }).fill("correct horse battery");
  await page.getByLabel("Password again").fill("correct horse battery");
  await page.getByRole("button", { name: "Make the account" }).click();
  await page.locator("[data-live=live]").waitFor();
}

/** A fleet with something to see: a project with a server, a checkpoint and a copy, and a paused one. */
async function prepare(system: System): Promise<string> {
  const main = await system.create({ name: "api" });
  await main.files.write("~/app/server.py", source);
  await main.files.write("~/app/README.md", "# An API\n\nRuns on port 8000.\n");
  await main.commands.run("cd app && python3 server.py", { background: true, timeoutMs: 0 });
  await main.checkpoint({ name: "before-upgrade" });
  await main.files.write("~/app/limits.json", '{ "perMinute": 60 }\n');
  await main.files.write("~/app/README.md", "# An API\n\nRuns on port 8000, with limits.\n");
  const [copy] = await main.fork({ metadata: { name: "trial" } });
  await copy!.checkpoint({ name: "trial-done" });
  const waiting = await system.create({ template: "minimal", name: "agent-7" });
  await waiting.pause();
  return main.id;
}

const source = `"""Counts what it is asked."""
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    count = 0

    def do_GET(self):
        Handler.count += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{Handler.count}\\n".encode())


HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
`;

await using system = await System.start("screenshots");
const browser = await startBrowser();
try {
  await mkdir(out, { recursive: true });
  const id = await prepare(system);
  const { page, context } = await openPage(browser, { colorScheme: "light", viewport: { width: 1280, height: 760 } });
  await signUp(page, system.ready.url);
  const take = async (on: Page, name: string) => {
    await on.screenshot({ path: `${out}/${name}.png` });
    console.log(`docs/screenshots/${name}.png`);
  };
  const visit = async (on: Page, path: string) => {
    await on.goto(system.ready.url + path);
    await on.locator("[data-live=live]").waitFor(slow);
    await on
      .locator("[aria-label=Loading]")
      .first()
      .waitFor({ state: "detached", ...slow });
    await on.waitForTimeout(600); // fonts, and what moves in
  };
  for (const [name, path] of Object.entries({
    home: "/",
    sandboxes: "/sandboxes",
    templates: "/templates",
    audit: "/audit",
  })) {
    await visit(page, path);
    await take(page, name);
  }
  await visit(page, `/sandboxes/${id}/snapshots`);
  await page.getByText("before-upgrade").first().waitFor(slow);
  await take(page, "snapshots");
  await visit(page, `/sandboxes/${id}/snapshots?from=before-upgrade&to=${id}`);
  await page.getByText("/home/user/app/limits.json").waitFor(slow);
  await take(page, "compare");
  await visit(page, `/sandboxes/${id}/network`);
  await take(page, "network");
  await page.keyboard.press("Control+k");
  await page.waitForTimeout(400);
  await take(page, "palette");

  const storageState = await context.storageState();
  const { page: dark } = await openPage(browser, {
    colorScheme: "dark",
    viewport: { width: 1280, height: 760 },
    storageState,
  });
  await visit(dark, `/sandboxes/${id}`);
  await dark.locator("[data-terminal=open]").waitFor(slow);
  await dark.locator(".xterm-helper-textarea").focus();
  await dark.keyboard.type("uname -sr; ls --color -l app; curl -s localhost:8000; curl -s localhost:8000\n");
  await terminalShows(dark, /^2$/m).catch(() => {}); // without curl the picture is only a little emptier
  await take(dark, "terminal");
  await visit(dark, `/sandboxes/${id}/files?open=/home/user/app/server.py`);
  await dark.getByRole("textbox", { name: "Text of server.py" }).waitFor(slow);
  await dark.waitForTimeout(800);
  await take(dark, "files");
  await visit(dark, `/sandboxes/${id}/logs`);
  await dark.getByRole("log").waitFor(slow);
  await take(dark, "logs");
  await visit(dark, `/sandboxes/${id}/metrics?range=5m`);
  await dark.locator("canvas").first().waitFor(slow);
  await take(dark, "metrics");

  const { page: phone } = await openPage(browser, {
    viewport: { width: 360, height: 740 },
    deviceScaleFactor: 2,
    storageState,
  });
  await visit(phone, "/sandboxes");
  await take(phone, "phone");
} finally {
  await browser.close();
}
