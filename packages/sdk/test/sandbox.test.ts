import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { Sandbox, Wrenn, WrennError } from "wrenn";
import { startServer, type TestServer, testKey } from "./server.ts";

let server: TestServer;
let client: Wrenn;
beforeAll(async () => {
  server = await startServer();
  client = new Wrenn({ baseUrl: server.url, apiKey: testKey });
});
afterEach(() => {
  server.capsules.clear();
  server.seen.length = 0;
  server.guest.calls.length = 0;
});
afterAll(() => server[Symbol.asyncDispose]());

describe("life cycle", () => {
  test("create waits until the sandbox runs, and asks for what was asked", async () => {
    const sandbox = await Sandbox.create({ client, vcpus: 2, memoryMiB: 256, timeoutMs: 1500, metadata: { a: "b" } });
    const info = await sandbox.info();
    expect(info).toMatchObject({ id: sandbox.id, status: "running", template: "base", vcpus: 2, memoryMiB: 256 });
    expect(info).toMatchObject({ timeoutMs: 2000, metadata: { a: "b" } });
  });

  test("a sandbox that fails to start is reported and removed", async () => {
    const failing = client.request<{ id: string }>("POST", "/v1/capsules", { body: {} });
    const { id } = await failing;
    Object.assign(server.capsules.get(id)!, { status: "error", error: "no memory" });
    server.script.push(Response.json(server.capsules.get(id), { status: 201 }));
    const error = await Sandbox.create({ client }).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(WrennError);
    expect(error).toMatchObject({ code: "invalid_state", message: `sandbox ${id} is error: no memory` });
    expect(server.capsules.has(id)).toBe(false);
  });

  test("pause and resume wait for their end, and connect resumes a paused one", async () => {
    const sandbox = await Sandbox.create({ client });
    await sandbox.pause();
    expect((await sandbox.info()).status).toBe("paused");
    const again = await Sandbox.connect(sandbox.id, { client });
    expect((await again.info()).status).toBe("running");
    expect((await again.commands.run("echo back")).stdout).toBe("back\n");
  });

  test("kill tells whether there was one, and `await using` kills", async () => {
    let id: string;
    {
      await using sandbox = await Sandbox.create({ client });
      id = sandbox.id;
      expect((await Sandbox.list({ client })).map((one) => one.id)).toEqual([id]);
    }
    expect(server.capsules.size).toBe(0);
    expect(await Sandbox.kill(id, { client })).toBe(false);
  });

  test("an error of the server keeps its code, message and remedy", async () => {
    const error = await Sandbox.info("cl-nobody", { client }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "not_found", message: "no sandbox cl-nobody", remedy: "List them." });
  });

  test("an internal error names the request that the server's log explains", async () => {
    const headers = { "X-Request-Id": "r-1" };
    server.script.push(Response.json({ error: { code: "internal_error", message: "oops" } }, { status: 500, headers }));
    const error = await Sandbox.list({ client }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "internal_error", details: { requestId: "r-1" } });
  });

  test("a command in a paused sandbox gets the server's error, not the transport's", async () => {
    const sandbox = await Sandbox.create({ client });
    await sandbox.pause();
    const error = await sandbox.commands.run("true").catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "invalid_state", remedy: "Resume it." });
    expect(await sandbox.files.read("x").catch((thrown) => thrown)).toMatchObject({ code: "invalid_state" });
  });
});

describe("requests", () => {
  const broken = (failures: number) => {
    let left = failures;
    let sent = 0;
    const fetch = (url: string, init?: RequestInit) => {
      sent += 1;
      if (left-- > 0) throw new TypeError("connection reset");
      return globalThis.fetch(url, init);
    };
    return { client: new Wrenn({ baseUrl: server.url, apiKey: testKey, fetch }), sent: () => sent };
  };

  test("a question is asked again after a connection error", async () => {
    const { client, sent } = broken(2);
    expect(await Sandbox.list({ client })).toEqual([]);
    expect(sent()).toBe(3);
  });

  test("a create is sent once, for the first may have worked", async () => {
    const { client, sent } = broken(1);
    const error = await Sandbox.create({ client }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "host_unavailable", remedy: expect.stringContaining("wrenn up") });
    expect(sent()).toBe(1);
  });

  test("an abort is passed on unchanged, a time-out is a WrennError", async () => {
    const hang = (_url: string, init?: RequestInit) =>
      new Promise<Response>((_, reject) => {
        const stop = () => reject(init?.signal?.reason);
        if (init?.signal?.aborted) stop();
        init?.signal?.addEventListener("abort", stop);
      });
    const stuck = new Wrenn({ baseUrl: server.url, apiKey: testKey, fetch: hang });
    const reason = new Error("changed my mind");
    const abort = new AbortController();
    const asking = Sandbox.list({ client: stuck, signal: abort.signal });
    abort.abort(reason);
    expect(await asking.catch((thrown) => thrown)).toBe(reason);
    const late = await Sandbox.list({ client: stuck, requestTimeoutMs: 5 }).catch((thrown) => thrown);
    expect(late).toMatchObject({ code: "timeout" });
  });

  test("a missing key and a wrong address are told before anything is sent", async () => {
    const keyless = new Wrenn({ baseUrl: "http://other.test:1", apiKey: "" });
    expect(await Sandbox.list({ client: keyless }).catch((thrown) => thrown)).toMatchObject({ code: "unauthorized" });
    const wrong = await Sandbox.list({ baseUrl: "127.0.0.1:9725", apiKey: "k" }).catch((thrown) => thrown);
    expect(wrong).toMatchObject({ code: "invalid_request", message: '"127.0.0.1:9725" is not a server address' });
  });

  test("a list holds every page", async () => {
    const page = (number: number, next?: string) =>
      Response.json(
        [{ ...capsule, id: `cl-${number}` }],
        next === undefined ? {} : { headers: { "X-Next-Cursor": next } },
      );
    const capsule = { status: "running", template: "base", created_at: new Date().toISOString(), last_updated: "" };
    server.script.push(page(1, "first"), page(2, "second"), page(3));
    const from = server.seen.length;
    expect((await Sandbox.list({ client })).map(({ id }) => id)).toEqual(["cl-1", "cl-2", "cl-3"]);
    expect(server.seen.length - from).toBe(3);
  });

  test("health needs no key, and templates are listed", async () => {
    expect(await new Wrenn({ baseUrl: server.url }).health()).toMatchObject({ version: "0.1.0" });
    expect((await client.templates()).map((template) => template.name)).toEqual(["base"]);
  });
});
