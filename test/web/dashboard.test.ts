/** The dashboard in a real browser, against the whole system with real VMs. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { Sandbox } from "wrenn";
import type { System } from "../support/system.ts";
import { complaints, openPage, terminalShows, violations } from "./browser.ts";
import { faultTests } from "./faults.ts";
import { person, shared, slow } from "./shared.ts";
import { teamTests } from "./team.ts";

// The first sandbox boots its template, by emulation on some machines.
setDefaultTimeout(240_000);

let system: System;
let browser: Browser;
let page: Page;
let context: BrowserContext;
beforeAll(async () => {
  await shared.begin();
  ({ system, browser, page, context } = shared);
});
afterAll(() => shared.end());

const at = (path: string): string => system.ready.url + path;
const sandboxId = (): string => /cl-[0-9a-z]{25}/.exec(page.url())![0];
const tab = (name: string) => page.getByRole("navigation", { name: "Sandbox" }).getByRole("link", { name });
const type = async (line: string) => {
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.type(`${line}\n`);
};

describe("a stranger, without reading anything", () => {
  let first: string;

  test("opens the printed link, which signs in once and leaves no key to scripts", async () => {
    const link = at(`/sign-in${new URL(system.ready.dashboard).hash}`);
    const { page: other, context: own } = await openPage(browser);
    await other.goto(link);
    await other.locator("[data-live=live]").waitFor(slow);
    expect(other.url()).toBe(at("/"));
    expect(await other.evaluate(() => JSON.stringify(localStorage) + document.cookie)).not.toContain("wrn_");
    await other.getByTitle("Account and theme").click();
    await other.getByRole("menuitem", { name: "Sign out" }).click();
    await other.getByRole("heading", { name: "Sign in" }).waitFor();
    await other.goto(link);
    await other.getByText("This link was opened before").waitFor();
    await own.close();
  });

  test("makes an account and is in", async () => {
    await page.goto(at("/"));
    await page.getByRole("link", { name: "Make the first one" }).click();
    await page.getByLabel("Name").fill(person.name);
    await page.getByLabel("E-mail").fill(person.email);
    await page.getByLabel("Password", { exact: true }).fill(person.password);
    await page.getByLabel("Password again").fill(person.password);
    await page.getByRole("button", { name: "Make the account" }).click();
    await page.getByRole("heading", { name: "Home" }).waitFor();
    await page.locator("[data-live=live]").waitFor();
  });

  test("creates a sandbox and types in its terminal", async () => {
    await page.getByRole("button", { name: "New sandbox" }).click();
    await page.getByRole("button", { name: "Create sandbox" }).click();
    await page.waitForURL(/\/sandboxes\/cl-/, slow);
    first = sandboxId();
    await page.locator("[data-terminal=open]").waitFor(slow);
    await type(
      "echo answer: $((6 * 7)); echo first > note.txt; mkdir -p site; echo '<h1>Hello</h1>' > site/index.html",
    );
    await terminalShows(page, /answer: 42/);
  });

  test("edits a file, and the sandbox has what was typed", async () => {
    await tab("Files").click();
    await page.getByRole("treeitem", { name: "note.txt" }).getByRole("button").first().click();
    const editor = page.getByRole("textbox", { name: "Text of note.txt" });
    await editor.getByText("first").waitFor(slow);
    await editor.click();
    await page.keyboard.press("Control+a");
    await page.keyboard.type("written in the browser");
    await page.keyboard.press("Control+s");
    await page.getByText("note.txt is saved.").waitFor(slow);
    const sandbox = await Sandbox.connect(first, { client: system.client });
    expect(await sandbox.files.read("/home/user/note.txt")).toBe("written in the browser");
  });

  test("uploads by dropping, renames, and takes a deletion back", async () => {
    const transfer = await page.evaluateHandle(() => {
      const made = new DataTransfer();
      made.items.add(new File(["dropped"], "dropped.txt"));
      return made;
    });
    await page.getByRole("region", { name: "Folder" }).dispatchEvent("drop", { dataTransfer: transfer });
    const entry = page.getByRole("treeitem", { name: "dropped.txt" });
    await entry.waitFor(slow);
    await entry.getByRole("button", { name: "Actions" }).click();
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("renamed.txt");
    await page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
    const renamed = page.getByRole("treeitem", { name: "renamed.txt" });
    await renamed.getByRole("button", { name: "Actions" }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await renamed.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Undo" }).click();
    await renamed.waitFor();
  });

  test("opens a preview of a server they started", async () => {
    await tab("Terminal").click();
    await type("python3 -m http.server 8000 --directory site > /dev/null 2>&1 &");
    await tab("Ports").click();
    await page.getByRole("cell", { name: "8000", exact: true }).waitFor(slow);
    const [preview] = await Promise.all([
      context.waitForEvent("page"),
      page.getByRole("button", { name: "Open preview" }).click(),
    ]);
    await preview.getByRole("heading", { name: "Hello" }).waitFor(slow);
    // Another origin than the dashboard's, so that what runs there reaches nothing here.
    expect(new URL(preview.url()).host).toStartWith(`8000-${first}.`);
    await preview.close();
  });

  test("sees its processes, and ends one", async () => {
    await tab("Processes").click();
    const row = page.getByRole("row", { name: /http.server 8000/ });
    await row.waitFor(slow);
    await row.getByRole("button", { name: /Signal/ }).click();
    await page.getByRole("menuitem", { name: "Kill" }).click();
    await row.waitFor({ state: "detached", ...slow });
  });

  test("checkpoints, forks and rolls back", async () => {
    await tab("Snapshots").click();
    const main = page.getByRole("region", { name: "Snapshots" });
    await main.getByRole("button", { name: "Checkpoint" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("before");
    await page.getByRole("button", { name: "Take it" }).click();
    await main.getByRole("button", { name: "Roll back" }).waitFor(slow);
    const sandbox = await Sandbox.connect(first, { client: system.client });
    await sandbox.files.write("/home/user/note.txt", "changed since");
    await main.getByRole("button", { name: "Fork" }).click();
    await page.waitForURL((url) => url.pathname.includes("cl-") && !url.pathname.includes(first), slow);
    const copy = await Sandbox.connect(sandboxId(), { client: system.client });
    expect(await copy.files.read("/home/user/note.txt")).toBe("changed since");
    await copy.kill();
    await page.goto(at(`/sandboxes/${first}/snapshots`));
    await main
      .getByRole("listitem")
      .filter({ hasText: "before" })
      .getByRole("button", { name: "Roll back" })
      .first()
      .click();
    await page.getByRole("dialog").getByRole("button", { name: "Roll back" }).click();
    await page.getByText(/is back at before/).waitFor(slow);
    expect(await sandbox.files.read("/home/user/note.txt")).toBe("written in the browser");
  });

  test("sees its load, which comes without being asked for again", async () => {
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    await tab("Metrics").click();
    await page.getByRole("img", { name: "Memory over time" }).locator("canvas").waitFor(slow);
    const shown = page.locator("figcaption", { hasText: "Memory" });
    const before = (await shown.textContent())!;
    const sandbox = await Sandbox.connect(first, { client: system.client });
    await sandbox.commands.run("head -c 60M /dev/zero > /dev/shm/full");
    await page.waitForFunction((text) => {
      const captions = [...document.querySelectorAll("figcaption")].map((one) => one.textContent);
      return !captions.includes(text);
    }, before);
    expect(asked.filter((url) => new URL(url).pathname.endsWith("/metrics"))).toEqual([]);
  });

  test("reads its log as it grows, and searches it", async () => {
    await tab("Logs").click();
    const log = page.getByRole("log");
    await log.getByText("running").first().waitFor(slow);
    const sandbox = await Sandbox.connect(first, { client: system.client });
    await sandbox.commands.run("exit 7").catch(() => {});
    await log.getByText("exit status 7").waitFor(slow);
    await page.keyboard.press("/");
    await page.keyboard.type("exit_code=7");
    await page.waitForFunction(() => document.querySelectorAll("[role=log] > p").length === 1);
  });

  test("sees which files changed since a checkpoint", async () => {
    const sandbox = await Sandbox.connect(first, { client: system.client });
    await sandbox.commands.run("echo more >> note.txt; echo a > added.txt; rm -r site");
    await tab("Snapshots").click();
    const row = page.getByRole("listitem").filter({ hasText: "before" }).first();
    await row.getByRole("button", { name: "Actions for before" }).first().click();
    await page.getByRole("menuitem", { name: "Compare with now" }).click();
    const found = page.getByRole("region", { name: "Comparison" });
    await found.getByText("/home/user/added.txt").waitFor({ timeout: 120_000 });
    const told = (await found.getByRole("listitem").allTextContents()).map((text) => text.replace(/\s+/g, " ").trim());
    const ours = told.filter((text) => text.includes("/home/user/") && !/\.bash_history|\.python_history/.test(text));
    expect(ours.map((text) => text.split(" ").slice(0, 2).join(" "))).toEqual([
      "+ /home/user/added.txt",
      "~ /home/user/note.txt",
      "− /home/user/site/",
      "− /home/user/site/index.html",
    ]);
  });

  test("names it, and finds it by that", async () => {
    await page.getByRole("button", { name: "Name", exact: true }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("first-of-all");
    await page.getByRole("button", { name: "Name it" }).click();
    await page.getByRole("heading", { name: "first-of-all" }).waitFor(slow);
    expect((await Sandbox.info(first, { client: system.client })).name).toBe("first-of-all");
  });

  test("says what it may reach, and the sandbox is held to that", async () => {
    await tab("Network").click();
    await page.getByRole("button", { name: "Only some" }).click();
    await page.getByLabel("It reaches these").fill("pypi.org\n*.pythonhosted.org\n");
    await page.getByRole("button", { name: "Set it" }).click();
    await page.getByText("The policy holds from now on.").waitFor(slow);
    const { policy } = await Sandbox.network(first, { client: system.client });
    expect(policy).toMatchObject({ internet: false, allow: ["pypi.org", "*.pythonhosted.org"] });
  });

  test("is shown each page's actions as code", async () => {
    await page.getByRole("button", { name: "Show as CLI, SDK, curl" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText(`wrenn network ${first} --no-internet`).waitFor();
    await dialog.getByRole("tab", { name: "curl" }).first().click();
    await dialog.getByText(`/v1/capsules/${first}/network`).first().waitFor();
    await page.keyboard.press("Escape");
  });

  test("and nothing complained meanwhile", () => expect(complaints.get(page)).toEqual([]));
});

describe("an administrator", () => {
  test("makes a template of a sandbox of the installation, opens it to all, and deletes it", async () => {
    const made = await system.create({ template: "minimal" });
    await page.goto(at(`/admin/sandboxes/${made.id}`));
    await page.locator("[data-terminal=open]").waitFor(slow);
    await page.getByRole("button", { name: "Files" }).click();
    await page.getByRole("region", { name: "Folder" }).waitFor(slow);
    await page.getByRole("button", { name: "Snapshot and destroy" }).click();
    await page.getByRole("dialog").getByLabel("Name of the template").fill("ours");
    await page.getByRole("button", { name: "Make it" }).click();
    await page.waitForURL(/admin\/sandboxes$/, slow);
    await page.goto(at("/admin/templates"));
    const row = page.getByRole("row", { name: /^ours/ });
    await row.getByRole("button", { name: "Actions for ours" }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await row.waitFor({ state: "detached", ...slow });
  });
});

teamTests();

const people = ["/keys", "/team", "/audit", "/settings", "/usage", "/channels", "/hosts"];
const administration = [
  "/admin/sandboxes",
  "/admin/templates",
  "/admin/users",
  "/admin/teams",
  "/admin/audit",
  "/admin/settings",
];
const pages = ["/", "/sandboxes", "/templates", "/templates?view=builds", ...people, ...administration];

faultTests(pages);

describe("when the server is away", () => {
  test("a server that is killed takes nothing from an open terminal", async () => {
    await page.goto(at("/sandboxes"));
    await page.getByRole("link", { name: "first-of-all", exact: true }).click();
    await page.locator("[data-terminal=open]").waitFor(slow);
    await type("clear; for i in $(seq 1 40); do echo line $i of 40; sleep 0.2; done");
    await terminalShows(page, /line 3 of 40/);
    process.kill(await system.pidOf("wrenn-cp"), "SIGKILL");
    await page.locator("[data-terminal=lost], [data-terminal=connecting]").waitFor(slow);
    await page.locator("[data-terminal=open]").waitFor(slow);
    const text = await terminalShows(page, /line 40 of 40/);
    const lines = [...text.matchAll(/^line (\d+) of 40/gm)].map(([, number]) => Number(number));
    expect(lines).toEqual(Array.from({ length: lines.length }, (_, i) => 40 - lines.length + 1 + i));
    await page.locator("[data-live=live]").waitFor(slow);
  });

  test("the log of a build goes on over a server that is killed, and tells each line once", async () => {
    const dockerfile = "FROM minimal\nRUN echo first of all\nRUN sleep 3\nRUN echo last of all\n";
    await page.goto(at("/templates?view=builds"));
    await page.getByRole("button", { name: "Build", exact: true }).first().click();
    await page.getByRole("dialog").getByLabel("Name").fill("patient");
    await page.getByRole("dialog").getByLabel("Tag").fill("v1");
    await page.getByRole("dialog").getByLabel("Dockerfile").last().fill(dockerfile);
    await page.getByRole("dialog").getByRole("button", { name: "Build", exact: true }).click();
    await page.waitForURL(/\/templates\/builds\/./, slow);
    const id = page.url().split("/").at(-1)!;
    const log = page.getByRole("log");
    await log.getByText("first of all", { exact: true }).waitFor({ timeout: 120_000 });
    process.kill(await system.pidOf("wrenn-cp"), "SIGKILL");
    await page.getByText("The server is away").waitFor(slow);
    await log.getByText("last of all", { exact: true }).waitFor({ timeout: 180_000 });
    await page.getByText(/✓\s*success/).waitFor(slow);
    // A step that had not ended when the server died is done again, and its line is told twice by the log itself.
    const told: string[] = [];
    for await (const { message } of system.client.builds.follow(id)) told.push(message);
    expect(await log.getByRole("paragraph").count()).toBe(told.length);
  });

  test("a version of a template is promoted, and the template deleted", async () => {
    await page.goto(at("/templates"));
    const row = page.getByRole("row", { name: /^patient/ });
    await row.getByRole("button", { name: "Actions for patient" }).click();
    await page.getByRole("menuitem", { name: "Promote a version" }).click();
    await page.getByRole("dialog").getByLabel("Tag or id of a build").fill("v1");
    await page.getByRole("dialog").getByRole("button", { name: "Promote" }).click();
    await row.getByText(":default").waitFor(slow);
    await row.getByRole("button", { name: "Actions for patient" }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await row.waitFor({ state: "detached", ...slow });
  });

  test("a sandbox that another program removes is shown as ended", async () => {
    const made = await system.create();
    await page.goto(at(`/sandboxes/${made.id}`));
    await page.locator("[data-terminal=open]").waitFor(slow);
    await made.kill();
    await page.getByText("This sandbox has ended").waitFor(slow);
  });

  test("a server that fails at everything is said to, with a way out", async () => {
    const { page: other, context: own } = await openPage(browser, { storageState: await context.storageState() });
    const body = JSON.stringify({
      error: { code: "unavailable", message: "The database is away.", remedy: "Start it." },
    });
    await own.route("**/v1/**", (route) => route.fulfill({ status: 503, contentType: "application/json", body }));
    await other.goto(at("/sandboxes"));
    await other.getByText("The database is away.").waitFor();
    await other.getByText("Start it.").waitFor();
    await own.unroute("**/v1/**");
    await other.getByRole("button", { name: "Try again" }).click();
    await other.getByRole("heading", { name: "Sandboxes" }).waitFor();
    await own.close();
  });

  test("a session that ended elsewhere leads to the sign-in, and back to where one was", async () => {
    const { page: other, context: own } = await openPage(browser, { storageState: await context.storageState() });
    await other.goto(at("/keys"));
    await other.getByRole("heading", { name: "API keys" }).waitFor();
    await own.clearCookies();
    await other.reload();
    await other.waitForURL(/\/sign-in\?to=%2Fkeys/);
    await other.getByLabel("E-mail").fill(person.email);
    await other.getByLabel("Password").fill(person.password);
    await other.getByRole("button", { name: "Sign in" }).click();
    await other.getByRole("heading", { name: "API keys" }).waitFor();
    await own.close();
  });

  test("a list stays right in many windows without being asked again", async () => {
    const { page: other, context: own } = await openPage(browser, { storageState: await context.storageState() });
    // More than a browser has connections to one server, and each follows something.
    const more = await Promise.all(Array.from({ length: 7 }, () => own.newPage()));
    for (const one of [...more, other]) {
      await one.goto(at("/sandboxes"));
      await one.locator("[data-live=live]").waitFor(slow);
    }
    const requests: string[] = [];
    for (const one of [...more, other]) one.on("request", (request) => requests.push(request.url()));
    const made = await system.create();
    const row = other.locator(`[data-row="${made.id}"]`);
    await row.getByText("running").waitFor(slow);
    await made.pause();
    await row.getByText("paused").waitFor(slow);
    await made.kill();
    await row.waitFor({ state: "detached", ...slow });
    for (const one of more) await one.locator(`[data-row="${made.id}"]`).waitFor({ state: "detached", ...slow });
    expect(requests).toEqual([]);
    await own.close();
  });
});

describe("for everybody", () => {
  for (const colorScheme of ["light", "dark"] as const)
    test(`no rule of accessibility is broken, ${colorScheme}`, async () => {
      const { page: other, context: own } = await openPage(browser, {
        storageState: await context.storageState(),
        colorScheme,
      });
      const id = (await system.client.list()).sandboxes.find(({ status }) => status === "running")!.id;
      const all = [
        ...pages,
        ...["", "/files", "/processes", "/logs", "/metrics", "/ports", "/network", "/snapshots", "/events"].map(
          (part) => `/sandboxes/${id}${part}`,
        ),
      ];
      // Themes differ in their colours and in nothing else.
      const rule = colorScheme === "dark" ? "color-contrast" : undefined;
      const found: string[] = [];
      for (const path of all) {
        await other.goto(at(path));
        await other.locator("[data-live=live]").waitFor();
        await other
          .locator("[aria-label=Loading]")
          .waitFor({ state: "detached", timeout: 20_000 })
          .catch(() => {});
        found.push(...(await violations(other, rule)).map((line) => `${path} ${line}`));
      }
      await own.clearCookies();
      for (const path of ["/sign-in", "/sign-up", "/forgot-password"]) {
        await other.goto(at(path));
        await other.getByRole("heading").first().waitFor();
        found.push(...(await violations(other, rule)).map((line) => `${path} ${line}`));
      }
      expect(found).toEqual([]);
      expect(complaints.get(other)).toEqual([]);
      await own.close();
    });

  test("at 360 pixels nothing is wider than the screen", async () => {
    const narrow = { viewport: { width: 360, height: 740 }, storageState: await context.storageState() };
    const { page: other, context: own } = await openPage(browser, narrow);
    const wide: string[] = [];
    for (const path of pages) {
      await other.goto(at(path));
      await other.locator("[data-live=live]").waitFor();
      const width = await other.evaluate(() => document.documentElement.scrollWidth);
      if (width > 360) wide.push(`${path} is ${width} wide`);
    }
    expect(wide).toEqual([]);
    await own.close();
  });

  test("everything is reached by keys", async () => {
    await page.goto(at("/"));
    await page.locator("[data-live=live]").waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("s");
    await page.getByRole("heading", { name: "Sandboxes" }).waitFor();
    await page.keyboard.press("Control+k");
    await page.getByPlaceholder("Find a page").and(page.locator(":focus")).waitFor();
    await page.keyboard.type("audit log"); // an administrator has an "Audit of all" beside it
    await page.locator("[data-selected]", { hasText: "Audit log" }).waitFor(); // as a person sees it before Enter
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Audit log" }).waitFor();
    await page.keyboard.press("n");
    await page.getByRole("dialog", { name: "New sandbox" }).waitFor();
    await page.keyboard.press("Escape");
  });
});
