import { describe, expect, test } from "bun:test";
import type { BrowserContext, Page } from "playwright-core";
import { Sandbox } from "wrenn";
import { openPage } from "./browser.ts";
import { shared, slow } from "./shared.ts";

const bob = { name: "Bob Roe", email: "bob@example.com", password: "the second password" };

const open = async (path: string): Promise<Page> => {
  const { page } = shared;
  await page.goto(shared.at(path));
  await page.locator("[data-live=live]").waitFor(slow);
  return page;
};
const dialogOf = (page: Page) => page.getByRole("dialog");
const press = (page: Page, name: string) => page.getByRole("button", { name, exact: true }).first().click();
const choose = (page: Page, name: string) => page.getByRole("menuitem", { name, exact: true }).click();
const told = (page: Page, text: string | RegExp) => page.getByText(text).first().waitFor(slow);
const row = (page: Page, text: string) => page.getByRole("row").filter({ hasText: text });

/** Signs Bob in anew in his own window. */
async function signIn(page: Page, password: string): Promise<void> {
  await page.goto(shared.at("/sign-in"));
  await page.getByLabel("E-mail").fill(bob.email);
  await page.getByLabel("Password").fill(password);
  await press(page, "Sign in");
}

/** What a team does with its members, keys, channels, log and hosts, each action of its pages once. */
export function teamTests(): void {
  let his: Page;
  let own: BrowserContext;
  let recovery: string[] = [];

  /** The code that the sign-in asks for; each works once. */
  const enterCode = async () => {
    await his.getByLabel("Code").fill(recovery.shift()!);
    await press(his, "Sign in");
    await his.locator("[data-live=live]").waitFor(slow);
  };

  describe("a team", () => {
    test("invites a colleague, who makes an account by the link, and is in the list without a reload", async () => {
      const page = await open("/team");
      await press(page, "Invite");
      await dialogOf(page).getByLabel("E-mail").fill(bob.email);
      await dialogOf(page).getByRole("button", { name: "Invite" }).click();
      const link = (await dialogOf(page).locator("code").textContent())!;
      await press(page, "Done");
      ({ page: his, context: own } = await openPage(shared.browser));
      await his.goto(link);
      await his.getByRole("link", { name: "Make an account" }).click();
      await his.getByLabel("Name").fill(bob.name);
      await his.getByLabel("E-mail").fill(bob.email);
      await his.getByLabel("Password", { exact: true }).fill(bob.password);
      await his.getByLabel("Password again").fill(bob.password);
      await press(his, "Make the account");
      await his.locator("[data-live=live]").waitFor(slow);
      await row(page, bob.name).waitFor(slow);
      await row(page, bob.name)
        .getByRole("button", { name: `Actions for ${bob.name}` })
        .click();
      await choose(page, "Make admin");
      await row(page, bob.name).getByRole("cell", { name: "admin", exact: true }).waitFor(slow);
    });

    test("forgets a password, and sets a new one by the mailed link", async () => {
      await his.getByTitle("Account and theme").click();
      await choose(his, "Sign out");
      await his.getByRole("link", { name: "Forgot the password?" }).click();
      await his.getByRole("heading", { name: "Forgotten password" }).waitFor(slow);
      await his.getByLabel("E-mail").fill(bob.email);
      await press(his, "Send the link");
      await told(his, /a link to a new password is on its way/);
      const mails = (await (await fetch(shared.at("/v1/dev/outbox"))).json()) as { to: string; text: string }[];
      const link = /http\S+reset-password\S+/.exec(mails.find(({ to }) => to === bob.email)!.text)![0];
      await his.goto(link);
      bob.password = "the third password";
      await his.getByLabel("New password").fill(bob.password);
      await press(his, "Set it");
      await his.getByRole("heading", { name: "Sign in" }).waitFor(slow);
      await signIn(his, bob.password);
      await his.locator("[data-live=live]").waitFor(slow);
    });

    test("turns a second factor on, and signs in with it", async () => {
      await his.goto(shared.at("/settings"));
      await press(his, "Turn it on");
      await his.getByRole("img", { name: "Secret of the second factor" }).waitFor(slow);
      const { TOTP, Secret } = await import("otpauth");
      const secret = (await his.locator("p.mono").first().textContent())!.trim();
      await his.getByLabel("Code it shows").fill(new TOTP({ secret: Secret.fromBase32(secret) }).generate());
      await press(his, "Turn it on");
      recovery = (await his.locator("pre").textContent())!.trim().split("\n");
      await press(his, "I have them");
      await told(his, "A code of your authenticator is asked for");
      await own.clearCookies();
      await signIn(his, bob.password);
      await enterCode();
    });

    test("changes a name, and ends another session of the same person", async () => {
      await his.goto(shared.at("/settings"));
      await his.getByLabel("Name").fill("Robert Roe");
      await press(his, "Save");
      await told(his, "Your name is changed.");
      await press(his, "End all others");
      await told(his, "Every other session has ended.");
    });

    test("signs out in one of two tabs, and the other one follows", async () => {
      const second = await own.newPage();
      await second.goto(shared.at("/keys"));
      await second.getByRole("heading", { name: "API keys" }).waitFor(slow);
      await his.getByTitle("Account and theme").click();
      await choose(his, "Sign out");
      await second.waitForURL(/\/sign-in\?to=%2Fkeys/, slow);
      await second.close();
    });

    test("makes a key that may only look, which is shown once and refused after it is revoked", async () => {
      const page = await open("/keys");
      await press(page, "New key");
      await dialogOf(page).getByLabel("Name").fill("dashboards");
      await dialogOf(page).getByLabel("Ends").selectOption("30");
      await dialogOf(page).getByLabel("Everything a program of the team can").uncheck();
      await press(page, "Make the key");
      const key = (await page.getByTestId("key").textContent())!;
      await press(page, "Done");
      expect(await page.content()).not.toContain(key);
      const ask = async (method: string) =>
        (await fetch(shared.at("/v1/capsules"), { method, headers: { "x-api-key": key } })).status;
      expect([await ask("GET"), await ask("POST")]).toEqual([200, 403]);
      await row(page, "dashboards").getByRole("button", { name: "Revoke" }).click();
      await dialogOf(page).getByRole("button", { name: "Revoke" }).click();
      await row(page, "dashboards").waitFor({ state: "detached", ...slow });
      expect(await ask("GET")).toBe(401);
    });

    test("has a webhook told, sees each delivery come, and sends one again", async () => {
      const heard: string[] = [];
      await using hook = Bun.serve({
        port: 0,
        hostname: "127.0.0.1",
        fetch: async (request) => {
          heard.push(await request.text());
          return new Response();
        },
      });
      const page = await open("/channels");
      await press(page, "New channel");
      await dialogOf(page).getByLabel("Name").fill("ops");
      await dialogOf(page).getByLabel("Address").fill(`http://127.0.0.1:${hook.port}/`);
      await dialogOf(page).getByLabel("template.snapshot.created").check();
      await press(page, "Send a test");
      await told(page, "The test message is sent.");
      await press(page, "Make it");
      await told(page, "Messages are signed with it");
      await press(page, "Done");
      await row(page, "ops").getByRole("button", { name: "Deliveries" }).click();
      await told(page, "Nothing was sent yet.");
      const { sandboxes } = await shared.system.client.list();
      const sandbox = await Sandbox.connect(sandboxes.find(({ status }) => status === "running")!.id, {
        client: shared.system.client,
      });
      await sandbox.checkpoint({ name: "told" });
      const delivery = row(page, "template.snapshot.created");
      await delivery.getByText(/delivered/).waitFor(slow);
      const before = heard.length;
      await delivery.getByRole("button", { name: "Again" }).click();
      while (heard.length === before) await Bun.sleep(20);
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Actions for ops" }).click();
      await choose(page, "Delete");
      await dialogOf(page).getByRole("button", { name: "Delete" }).click();
      await row(page, "ops").waitFor({ state: "detached", ...slow });
    });

    test("reads in its log what was done, as it is done, filters, verifies and exports it", async () => {
      const page = await open("/audit?resource=snapshot");
      await row(page, "told").first().waitFor(slow);
      await shared.system.client.snapshots.delete("told");
      await page.getByRole("row").filter({ hasText: "delete" }).filter({ hasText: "told" }).waitFor(slow);
      await page.getByLabel("Action").fill("delete");
      await page.getByLabel("Action").press("Enter");
      await page.waitForURL(/action=delete/, slow);
      await press(page, "Verify");
      await told(page, /entries are as they were written/);
      await press(page, "Export");
      const [file] = await Promise.all([page.waitForEvent("download"), choose(page, "As CSV")]);
      expect(file.suggestedFilename()).toBe("audit.csv");
    });

    test("sees its usage over other ranges", async () => {
      const page = await open("/usage");
      await press(page, "24h");
      await page.waitForURL(/range=24h/);
      await page.getByRole("img", { name: "Sandboxes over time" }).locator("canvas").waitFor(slow);
      await press(page, "7 days");
      await page.waitForURL(/days=7/);
    });

    test("registers a host by the command that is shown, and takes it out", async () => {
      const page = await open("/hosts");
      await page.getByRole("button", { name: "Register a host" }).first().click();
      await dialogOf(page).getByText("wrenn-agent --register").waitFor(slow);
      await press(page, "Done");
      const pending = row(page, "pending");
      await pending.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Tags");
      await dialogOf(page).getByLabel("Tags").fill("zone:eu");
      await press(page, "Set them");
      await told(page, "Tagged zone:eu.");
      await pending.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Take out");
      await dialogOf(page).getByRole("button", { name: "Take it out" }).click();
      await pending.waitFor({ state: "detached", ...slow });
      // One that runs: kept free of new sandboxes, and opened again.
      await page.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Cordon: no new sandboxes");
      await told(page, "The host takes no new sandboxes.");
      await page.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Take new sandboxes again");
      await told(page, "The host takes new sandboxes.");
    });
  });

  describe("the installation", () => {
    test("closes an account, whose window is shown out, and opens it again", async () => {
      await signIn(his, bob.password);
      await enterCode();
      const page = await open("/admin/users");
      const account = row(page, bob.email);
      await account.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Close the account");
      await dialogOf(page).getByRole("button", { name: "Close the account" }).click();
      await told(page, `${bob.email} is closed.`);
      await his.waitForURL(/\/sign-in/, slow);
      await account.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Open the account");
      await account.getByText("active", { exact: true }).waitFor(slow);
      await own.close();
    });

    test("limits a team, and gives it the usual limits again", async () => {
      const page = await open("/admin/teams");
      const team = page.getByRole("row").nth(1);
      await team.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Limits");
      await dialogOf(page).getByLabel("Sandboxes").fill("50");
      await press(page, "Save");
      await told(page, "The limits hold from now on.");
      await team.getByRole("button", { name: /^Actions for/ }).click();
      await choose(page, "Limits");
      await press(page, "Defaults");
      await told(page, "The default limits hold again.");
    });

    test("says who may make an account, and has flags", async () => {
      const page = await open("/admin/settings");
      await press(page, "Who is invited");
      await told(page, "Changed.");
      expect(await (await fetch(shared.at("/v1/auth/options"))).json()).toMatchObject({ signup: "invite" });
      await press(page, "Everybody");
      await press(page, "Add");
      await dialogOf(page).getByLabel("Name").fill("beta");
      await dialogOf(page).getByRole("button", { name: "Add" }).click();
      await told(page, "beta is on.");
    });

    test("has its whole API to be tried out", async () => {
      const { page, context } = await shared.another();
      await page.goto(shared.at("/docs"));
      await page.getByText("/v1/capsules").first().waitFor(slow);
      await context.close();
    });
  });
}
