import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Sandbox, Wrenn } from "wrenn";
import { apiKey, Plane } from "../../control/test/support/plane.ts";

// The control plane and its database start first; a busy machine takes its time for that.
setDefaultTimeout(30_000);

let plane: Plane;
let client: Wrenn;
beforeAll(async () => {
  plane = await Plane.start();
  client = new Wrenn({ baseUrl: plane.address, apiKey });
});
afterAll(() => plane[Symbol.asyncDispose]());

const create = (metadata: Record<string, string> = {}) => Sandbox.create({ client, template: "minimal", metadata });
const failure = (work: Promise<unknown>) => work.then(() => undefined).catch((thrown) => thrown);

describe("a checkpoint", () => {
  test("is named, listed, found and a template of new sandboxes, and the sandbox runs on", async () => {
    const sandbox = await create();
    const made = await sandbox.checkpoint({ name: "first", metadata: { step: "1" } });
    expect(made).toMatchObject({ name: "first", sandboxId: sandbox.id, parent: undefined, metadata: { step: "1" } });
    const next = await sandbox.checkpoint();
    expect(next.parent).toBe("first");
    expect(await sandbox.info()).toMatchObject({ status: "running", origin: next.name });
    expect((await client.snapshots.list()).map(({ name }) => name)).toEqual([next.name, "first"]);
    expect(await client.snapshots.get("first")).toEqual(made);
    const copy = await Sandbox.create({ client, template: "first" });
    expect((await copy.info()).origin).toBe("first");
  });

  test("of a paused sandbox leaves it paused", async () => {
    const sandbox = await create();
    await sandbox.pause();
    expect((await Sandbox.checkpoint(sandbox.id, { client })).sandboxId).toBe(sandbox.id);
    expect((await sandbox.info()).status).toBe("paused");
  });

  test("deletes once, and neither a template nor a taken name is mistaken for one", async () => {
    const sandbox = await create();
    await sandbox.checkpoint({ name: "passing" });
    expect(await failure(sandbox.checkpoint({ name: "passing" }))).toMatchObject({ code: "conflict" });
    expect(await client.snapshots.delete("passing")).toBe(true);
    expect(await client.snapshots.delete("passing")).toBe(false);
    expect(await failure(client.snapshots.get("passing"))).toMatchObject({ code: "not_found" });
    expect(await failure(client.snapshots.get("minimal"))).toMatchObject({ code: "not_found" });
    expect(await failure(client.snapshots.delete("minimal"))).toMatchObject({ code: "forbidden" });
  });
});

describe("fork", () => {
  test("gives as many running sandboxes as asked for, with their wishes or the source's", async () => {
    const sandbox = await create({ of: "source" });
    const copies = await sandbox.fork({ count: 3, timeoutMs: 1500 });
    const infos = await Promise.all(copies.map((copy) => copy.info()));
    expect(new Set(infos.map(({ id }) => id)).size).toBe(3);
    for (const info of infos)
      expect(info).toMatchObject({ status: "running", timeoutMs: 2000, metadata: { of: "source" } });
    const [labelled] = await sandbox.fork({ metadata: { of: "fork" }, envs: { A: "1" } });
    expect((await labelled!.info()).metadata.of).toBe("fork");
    expect(plane.host.envs.get(labelled!.id.slice(3))).toEqual({ A: "1" });
    expect((await labelled!.commands.run("echo $((6 * 7))")).stdout).toBe("42\n");
  });

  test("that fails leaves no copy behind and says why", async () => {
    const sandbox = await create();
    const before = (await Sandbox.list({ client })).length;
    plane.host.script("create", "1*off->1*error(no room)");
    expect(await failure(sandbox.fork({ count: 2 }))).toBeInstanceOf(Error);
    plane.host.heal();
    expect(await Sandbox.list({ client })).toHaveLength(before);
    expect(await failure(sandbox.fork({ count: 0 }))).toMatchObject({ code: "invalid_request" });
    expect(await sandbox.fork()).toHaveLength(1);
  });
});

describe("rollback", () => {
  test("takes a snapshot or its name, and a paused sandbox runs afterwards", async () => {
    const sandbox = await create();
    const first = await sandbox.checkpoint();
    const second = await sandbox.checkpoint();
    await sandbox.rollback(first);
    expect((await sandbox.info()).origin).toBe(first.name);
    await sandbox.pause();
    await sandbox.rollback(second.name);
    expect(await sandbox.info()).toMatchObject({ status: "running", origin: second.name });
  });

  test("to a snapshot of another line is refused and changes nothing", async () => {
    const [one, other] = [await create(), await create()];
    const foreign = await other.checkpoint();
    expect(await failure(one.rollback(foreign))).toMatchObject({ code: "invalid_request" });
    expect(await failure(one.rollback("no-such"))).toMatchObject({ code: "not_found" });
    expect((await one.info()).origin).toBeUndefined();
  });
});

describe("ports", () => {
  test("a private port opens with its token and its link, a public one to anybody", async () => {
    using app = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("hello") });
    plane.host.apps.set(8000, `http://127.0.0.1:${app.port}`);
    const sandbox = await create();
    const host = await sandbox.getHost(8000);
    expect(host).toBe(`8000-${sandbox.id}.localhost:${new URL(plane.address).port}`);
    // The name need not resolve here: the control plane reads it from the header.
    const open = (path: string, headers: Record<string, string> = {}) =>
      fetch(plane.address + path, { headers: { host, ...headers }, redirect: "manual" });
    const access = await sandbox.openPort(8000, { expiresMs: 60_000 });
    expect(access).toMatchObject({ url: `http://${host}/`, public: false });
    expect((await open("/")).status).toBe(401);
    expect(await (await open("/", { "X-Wrenn-Traffic-Token": access.token! })).text()).toBe("hello");
    const link = new URL(access.signedUrl!);
    expect((await open(link.pathname + link.search)).status).toBeLessThan(400);

    const opened = await sandbox.openPort(8000, { public: true });
    expect(opened).toEqual({ url: `http://${host}/`, public: true, token: undefined, signedUrl: undefined });
    expect(await (await open("/")).text()).toBe("hello");
    expect((await sandbox.openPort(8000)).public).toBe(true);
    expect((await sandbox.openPort(8000, { public: false })).public).toBe(false);
  });

  test("what is no port is refused", async () => {
    const sandbox = await create();
    for (const port of [0, 65_536, 1.5, 49_983])
      expect(await failure(sandbox.getHost(port))).toMatchObject({ code: "invalid_request" });
  });
});
