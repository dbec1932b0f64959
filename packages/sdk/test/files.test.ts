import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { Sandbox } from "wrenn";
import { startServer, type TestServer, testKey } from "./server.ts";

let server: TestServer;
let sandbox: Sandbox;
let local: string;
beforeAll(async () => {
  server = await startServer();
  sandbox = await Sandbox.create({ baseUrl: server.url, apiKey: testKey });
  local = await mkdtemp(`${tmpdir()}/wrenn-local-`);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(local, { recursive: true });
});

/** A path in the test's own folder. */
const at = (path: string) => `${server.guest.home}/${path}`;

const caught = (promise: Promise<unknown>) => promise.catch((thrown: unknown) => thrown);

describe("files", () => {
  test("contents of every kind are written and read back in every format", async () => {
    const stream = new Blob(["streamed"]).stream();
    const kinds = { text: "täxt", bytes: new Uint8Array([0, 255, 10]), blob: new Blob(["blob"]), stream };
    for (const [name, contents] of Object.entries(kinds)) await sandbox.files.write(at(`in/${name}`), contents);
    expect(await sandbox.files.read(at("in/text"))).toBe("täxt");
    expect(await sandbox.files.read(at("in/bytes"), { format: "bytes" })).toEqual(new Uint8Array([0, 255, 10]));
    expect(await (await sandbox.files.read(at("in/blob"), { format: "blob" })).text()).toBe("blob");
    expect(await new Response(await sandbox.files.read(at("in/stream"), { format: "stream" })).text()).toBe("streamed");
    expect((await sandbox.files.list(at("in"))).map((entry) => entry.name)).toEqual([
      "blob",
      "bytes",
      "stream",
      "text",
    ]);
  });

  test("a path with every awkward character arrives as it is", async () => {
    const path = at("a b&c=d?e#f%20+ü.txt");
    expect((await sandbox.files.write(path, "x")).path).toBe(path);
    expect(await sandbox.files.exists(path)).toBe(true);
  });

  test("an empty file is a file", async () => {
    await sandbox.files.write(at("empty"), "");
    expect(await sandbox.files.read(at("empty"), { format: "bytes" })).toEqual(new Uint8Array());
    expect(await sandbox.files.stat(at("empty"))).toMatchObject({ name: "empty", type: "file", sizeBytes: 0 });
  });

  test("what is missing is not_found, a folder cannot be read", async () => {
    expect(await caught(sandbox.files.read(at("nowhere")))).toMatchObject({ code: "not_found" });
    expect(await caught(sandbox.files.stat(at("nowhere")))).toMatchObject({ code: "not_found" });
    expect(await sandbox.files.exists(at("nowhere"))).toBe(false);
    expect(await caught(sandbox.files.read("/"))).toMatchObject({ code: "invalid_request" });
  });

  test("folders are made once, things move and go", async () => {
    expect(await sandbox.files.makeDir(at("one/two"))).toBe(true);
    expect(await sandbox.files.makeDir(at("one/two"))).toBe(false);
    expect((await sandbox.files.rename(at("one/two"), at("one/three"))).name).toBe("three");
    await sandbox.files.remove(at("one"));
    expect(await sandbox.files.exists(at("one/three"))).toBe(false);
  });

  test("the user of a call reaches the guest", async () => {
    await sandbox.files.write(at("mine"), "x", { user: "root" });
    await sandbox.files.stat(at("mine"), { user: "root" });
    expect(server.guest.calls.at(-1)?.headers.get("authorization")).toBe(`Basic ${btoa("root:")}`);
  });

  test("local files go up and come down whole, and a failed download leaves the old one", async () => {
    const contents = Buffer.alloc(3_000_000, "0123456789");
    await writeFile(`${local}/up`, contents);
    await sandbox.files.upload(`${local}/up`, at("copied"));
    await sandbox.files.download(at("copied"), `${local}/down`);
    expect((await readFile(`${local}/down`)).equals(contents)).toBe(true);
    expect(await caught(sandbox.files.download(at("nowhere"), `${local}/down`))).toMatchObject({ code: "not_found" });
    expect((await readdir(local)).sort()).toEqual(["down", "up"]);
  });

  test("a watch delivers events until it is stopped", async () => {
    const { promise: seen, resolve } = Promise.withResolvers<unknown>();
    const { promise: ended, resolve: onExit } = Promise.withResolvers<unknown>();
    const watch = await sandbox.files.watchDir(server.guest.home, resolve, { onExit });
    await sandbox.files.makeDir(at("new"));
    expect(await seen).toEqual({ name: "new", type: "create" });
    watch.stop();
    expect(await ended).toBeUndefined();
  });
});
