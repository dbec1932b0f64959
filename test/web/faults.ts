import { describe, expect, test } from "bun:test";
import type { Page } from "playwright-core";
import { shared, slow } from "./shared.ts";

const body = JSON.stringify({
  error: { code: "unavailable", message: "The database is away.", remedy: "Start it." },
});
const away = { status: 503, contentType: "application/json", body };

/** What still answers: who one is, so that the page itself comes. */
const identity = /\/v1\/(me|teams)$/;

/** Waits until nothing is shown as on its way. */
const settled = (page: Page) => page.waitForFunction(() => !document.querySelector("[aria-label=Loading]"), slow);

/** What pages do when what they show is away. */
export function faultTests(paths: readonly string[]): void {
  describe("when something is away", () => {
    test("a server that fails at everything is said to by every page, none of which goes on waiting", async () => {
      const { page, context } = await shared.another();
      await context.route(
        (url) => url.pathname.startsWith("/v1/") && !identity.test(url.pathname),
        (route) => route.fulfill(away),
      );
      const id = (await shared.system.client.list()).sandboxes[0]!.id;
      const parts = ["", "/files", "/processes", "/logs", "/metrics", "/ports", "/network", "/snapshots", "/events"];
      const silent: string[] = [];
      for (const path of [...paths, ...parts.map((part) => `/sandboxes/${id}${part}`)]) {
        await page.goto(shared.at(path));
        await page.getByText("The database is away.").first().waitFor(slow);
        await page.getByText("Start it.").first().waitFor();
        await settled(page).catch(() => silent.push(path));
      }
      expect(silent).toEqual([]);
      await context.close();
    });

    test("a sandbox that vanishes while its pages are open is shown as ended on each", async () => {
      const { context } = await shared.another();
      const made = await shared.system.create();
      const pages = await Promise.all(
        ["files", "processes", "ports", "metrics", "logs", "network", "events"].map(async (part) => {
          const page = await context.newPage();
          await page.goto(shared.at(`/sandboxes/${made.id}/${part}`));
          await page.locator("[data-live=live]").waitFor(slow);
          return page;
        }),
      );
      await made.kill();
      for (const page of pages) {
        await page.getByText("stopped").first().waitFor(slow);
        await settled(page);
        await page.close();
      }
      await context.close();
    });
  });
}
