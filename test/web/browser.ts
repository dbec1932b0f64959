import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const candidates = [
  process.env.WRENN_CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];

/** The browser that `make browser` installs, or the one that `WRENN_CHROMIUM` names. Throws with the remedy. */
export async function startBrowser(): Promise<Browser> {
  const executablePath = candidates.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("there is no Chromium: run `make browser`, or set WRENN_CHROMIUM to its path");
  // A container has no user namespaces for its sandbox; what it loads here is our own.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** What a page complained about. */
export const complaints = new WeakMap<Page, string[]>();

/** A page in a context of its own, which remembers what it complained about. */
export async function openPage(
  browser: Browser,
  options: Parameters<Browser["newContext"]>[0] = {},
): Promise<{ page: Page; context: BrowserContext }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  // The terminal's text is read from the page, as a screen reader does.
  await context.addInitScript(() => localStorage.setItem("wrenn.terminal.read", "yes"));
  const page = await context.newPage();
  const heard: string[] = [];
  complaints.set(page, heard);
  page.on("pageerror", (error) => heard.push(error.message));
  page.on("console", (message) => {
    const text = message.text();
    // An answer that is refused is logged by the browser itself, and shown to the user by the page.
    if (message.type() === "error" && !text.startsWith("Failed to load resource")) heard.push(text);
  });
  return { page, context };
}

const axe = readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

type Violation = { id: string; nodes: { html: string; failureSummary?: string }[] };

/** What axe finds wrong on a page by WCAG 2.2 AA, or of one rule; a line for each rule and element. */
export async function violations(page: Page, rule?: string): Promise<string[]> {
  await page.evaluate(await axe);
  const found = await page.evaluate(async (only) => {
    const { axe } = window as unknown as { axe: { run: (options: object) => Promise<{ violations: Violation[] }> } };
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const runOnly = only ? { type: "rule", values: [only] } : { type: "tag", values: tags };
    return (await axe.run({ runOnly })).violations;
  }, rule);
  return found.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 160)} (${failureSummary?.split("\n")[1]?.trim()})`),
  );
}

/** What the terminal of the page shows. */
export const terminalText = (page: Page): Promise<string> =>
  page.evaluate(() =>
    [...document.querySelectorAll(".xterm-accessibility-tree > div")].map((row) => row.textContent).join("\n"),
  );

/** Waits until the terminal shows this, and gives all that it shows. */
export async function terminalShows(page: Page, pattern: RegExp, timeoutMs = 60_000): Promise<string> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const text = await terminalText(page);
    if (pattern.test(text)) return text;
    if (Date.now() > deadline) throw new Error(`the terminal never showed ${pattern}; it shows ${text}`);
    await page.waitForTimeout(50);
  }
}
