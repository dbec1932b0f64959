import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { headers, parseSandboxId, processes, WrennError } from "@wrenn/contract";
import { split } from "../src/edges/agent.ts";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
let id: string;
beforeAll(async () => {
  plane = await Plane.start();
  ({ id } = await plane.create());
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

const url = (path: string, sandbox = id) => `${plane.address}/v1/capsules/${sandbox}/agent${path}`;
const withKey = { [headers.apiKey]: apiKey };
const fileUrl = (name: string) => url(`/files?path=${encodeURIComponent(join(plane.guest.dir, name))}`);
const mib = 1024 * 1024;

/** A body of `size` bytes that is made while it is sent. */
const endless = (size: number): ReadableStream<Uint8Array> => {
  const chunk = new Uint8Array(mib);
  let left = size;
  return new ReadableStream({
    pull(controller) {
      if (left <= 0) return controller.close();
      controller.enqueue(chunk.slice(0, Math.min(left, mib)));
      left -= mib;
    },
  });
};

describe("the data plane", () => {
  test("an unmodified Connect client runs a command through it, in JSON and in binary", async () => {
    for (const useBinaryFormat of [false, true]) {
      const transport = createConnectTransport({
        baseUrl: url(""),
        useBinaryFormat,
        interceptors: [
          (next) => (request) => {
            request.header.set(headers.apiKey, apiKey);
            return next(request);
          },
        ],
      });
      const client = createClient(processes.Process, transport);
      let stdout = "";
      for await (const { event } of client.start({ process: { cmd: "/bin/echo", args: ["through"] } }))
        if (event?.event.case === "data" && event.event.value.output.case === "stdout")
          stdout += new TextDecoder().decode(event.event.value.output.value);
      expect(stdout).toBe("through\n");
    }
  });

  test("the host sees its token and the request id, and neither API key nor a forged token", async () => {
    const sent = {
      ...withKey,
      [headers.requestId]: "trace-1",
      [headers.hostToken]: "forged",
      [headers.accessToken]: "forged",
      authorization: "Basic cm9vdDo=",
    };
    await (await fetch(url("/health"), { headers: sent })).text();
    const seen = plane.host.seen.get(`/proxy/${parseSandboxId(id)}/49983/health`)!;
    expect(seen.get(headers.hostToken)).toBe(plane.host.token);
    expect(seen.get(headers.requestId)).toBe("trace-1");
    expect(seen.get("authorization")).toBe("Basic cm9vdDo=");
    expect(seen.get(headers.apiKey)).toBeNull();
    expect(seen.get(headers.accessToken)).toBeNull();
  });

  test("the guest sees neither the session of a browser nor that of a program", async () => {
    const sent = {
      ...withKey,
      cookie: "wrenn_session=wrs_secret",
      authorization: "Bearer wrs_secret",
      [headers.csrf]: "1",
    };
    await (await fetch(url("/health"), { headers: sent })).text();
    const seen = plane.host.seen.get(`/proxy/${parseSandboxId(id)}/49983/health`)!;
    for (const name of ["cookie", "authorization", headers.csrf]) expect(seen.get(name)).toBeNull();
  });

  test("what the guest answers runs nothing in the dashboard's origin", async () => {
    const answer = await fetch(url("/health"), { headers: withKey });
    expect(answer.headers.get("content-security-policy")).toBe("default-src 'none'; sandbox");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(answer.headers.get("set-cookie")).toBeNull();
  });

  test("128 MiB go up and come down unchanged in bounded memory", async () => {
    const size = 128 * mib;
    Bun.gc(true);
    const before = process.memoryUsage.rss();
    const sent = await fetch(fileUrl("large"), {
      method: "POST",
      headers: { ...withKey, "content-type": "application/octet-stream" },
      body: endless(size),
    });
    expect(sent.status).toBe(200);
    const got = await fetch(fileUrl("large"), { headers: withKey });
    let length = 0;
    for await (const chunk of got.body!) length += chunk.length;
    expect(length).toBe(size);
    // Client, control plane, host and guest are all in this process: eight buffers of the whole would be 1 GiB. Those of
    // the connections together come to 130 MiB, whatever the size is.
    expect(process.memoryUsage.rss() - before).toBeLessThan(2 * size);
  });

  test("a small answer keeps its length, and HEAD has no body", async () => {
    await Bun.write(join(plane.guest.dir, "small"), "hello");
    const plain = { ...withKey, "accept-encoding": "identity" };
    const got = await fetch(fileUrl("small"), { headers: plain });
    const head = await fetch(fileUrl("small"), { headers: plain, method: "HEAD" });
    expect(await head.text()).toBe("");
    expect([got.headers.get("content-length"), await got.text()]).toEqual(["5", "hello"]);
    await Bun.write(join(plane.guest.dir, "empty"), "");
    expect((await fetch(fileUrl("empty"), { headers: plain })).headers.get("content-length")).toBe("0");
  });

  test("the agent's own refusals pass through as they are", async () => {
    const got = await fetch(fileUrl("missing"), { headers: withKey });
    expect([got.status, ((await got.json()) as { code: number }).code]).toEqual([404, 404]);
  });

  for (const path of [
    "/init",
    "/init/",
    "//init",
    "/%69nit",
    "/INIT",
    "/freeze",
    "/unfreeze",
    "/fsfreeze",
    "/fsthaw",
    "/collapse",
    "/snapshot/prepare",
    "/snapshot",
  ])
    test(`${path} is its host's alone: 404 and nothing is sent`, async () => {
      const proxied = () => plane.host.proxied;
      const before = proxied();
      const got = await fetch(url(path), { method: "POST", headers: withKey, body: "{}" });
      expect([got.status, WrennError.fromBody(await got.json())?.code]).toEqual([404, "not_found"]);
      expect(proxied()).toBe(before);
    });

  test("no spelling of a path leaves the sandbox's own agent", () => {
    const base = "http://x/v1/capsules/cl-0000000000000000000000000/agent";
    for (const path of [
      "/../../../proxy",
      "/%2e%2e/x",
      "/a/..%2f..%2fb",
      "/a/%2e%2e%2f%2e%2e/b",
      "/..%5c..%5cb",
      "/%2e%2e%2f8080/",
      "/%zz",
    ])
      expect(() => split(base + path)).toThrow();
    expect(split(`${base}/files?path=/a/../b`)).toMatchObject({ path: "/files?path=/a/../b" });
  });

  test("a client that leaves ends the request at the guest at once", async () => {
    const left = new AbortController();
    const got = await fetch(url("/process.Process/Start"), {
      method: "POST",
      headers: { ...withKey, "content-type": "application/connect+json", "connect-protocol-version": "1" },
      body: envelope({ process: { cmd: "/bin/sleep", args: ["1000"] } }),
      signal: left.signal,
    });
    await got.body!.getReader().read();
    const ended = plane.host.nextAbort();
    left.abort();
    await ended;
  });

  test("an answer that breaks off at the guest breaks off at the client, and never ends as if it were whole", async () => {
    for (const path of ["/cut-length", "/cut-chunked"]) {
      const got = await fetch(url(path), { headers: withKey });
      expect(got.status).toBe(200);
      expect(
        await got.arrayBuffer().then(
          () => "whole",
          () => "broken",
        ),
      ).toBe("broken");
    }
  });

  test("a paused sandbox is refused with its state as soon as it pauses", async () => {
    const { id: other } = await plane.create();
    expect((await fetch(url("/health", other), { headers: withKey })).ok).toBe(true);
    await plane.json(200, "POST", `/v1/capsules/${other}/pause`);
    const got = await fetch(url("/health", other), { headers: withKey });
    expect([got.status, WrennError.fromBody(await got.json())?.toJSON().error.details]).toEqual([
      409,
      { id: other, state: "paused" },
    ]);
    await plane.json(200, "POST", `/v1/capsules/${other}/resume`);
    expect((await fetch(url("/health", other), { headers: withKey })).ok).toBe(true);
  });

  test("another team's key cannot reach it, even while the route is remembered", async () => {
    expect((await fetch(url("/health"), { headers: withKey })).ok).toBe(true);
    const got = await fetch(url("/health"), { headers: { [headers.apiKey]: await plane.otherKey() } });
    expect(got.status).toBe(404);
  });
});

const envelope = (message: unknown): Uint8Array<ArrayBuffer> => {
  const text = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return new Uint8Array(Buffer.concat([head, text]));
};
