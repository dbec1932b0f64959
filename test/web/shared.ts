import type { Browser, BrowserContext, Page } from "playwright-core";
import { System } from "../support/system.ts";
import { openPage, startBrowser } from "./browser.ts";

/** Who makes the first account, and so administers the installation. */
export const person = { name: "Ann Lee", email: "ann@example.com", password: "correct horse battery" };

/** For what a busy machine takes its time over. */
export const slow = { timeout: 60_000 };

/** One running system, one browser and one page in it, for every test of the dashboard: starting them is what is dear. */
class Shared {
  system!: System;
  browser!: Browser;
  context!: BrowserContext;
  page!: Page;

  async begin(): Promise<void> {
    // Webhooks of the tests are on this machine.
    const env = { WRENN_PRIVATE_DESTINATIONS: "1" };
    [this.system, this.browser] = await Promise.all([System.start("web", env), startBrowser()]);
    ({ page: this.page, context: this.context } = await openPage(this.browser));
  }

  async end(): Promise<void> {
    await this.browser?.close();
    await this.system?.end();
  }

  /** The address of a path. */
  at(path: string): string {
    return this.system.ready.url + path;
  }

  /** Another window of the person, whose cookies are its own. */
  async another(options: Parameters<Browser["newContext"]>[0] = {}): Promise<{ page: Page; context: BrowserContext }> {
    return openPage(this.browser, { storageState: await this.context.storageState(), ...options });
  }
}

export const shared = new Shared();
