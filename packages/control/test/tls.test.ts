import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { type ClientHttp2Session, connect } from "node:http2";
import { request } from "node:https";
import { tmpdir } from "node:os";
import type { rest } from "@wrenn/contract";
import { compile } from "../src/config.ts";
import { certificateOf } from "../src/tls/certificates.ts";
import { apiKey, Plane } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

let plane: Plane;
let dir: string;
let ca: string;
beforeAll(async () => {
  dir = await mkdtemp(`${tmpdir()}/wrenn-tls-`);
  plane = await Plane.start({}, {}, { tls: { listen: "127.0.0.1:0", dir } });
  ca = await readFile(`${dir}/ca.pem`, "utf8");
});
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

const port = () => Number(new URL(plane.control.secureAddress!).port);

/** A request as a client makes it that trusts the authority and resolves names below `localhost` to this machine. */
const get = (host: string, path: string, headers: Record<string, string> = {}) =>
  new Promise<{ status: number; body: string }>((resolve, reject) => {
    const options = { host: "127.0.0.1", port: port(), servername: host, path, ca };
    const sent = request({ ...options, headers: { host: `${host}:${port()}`, ...headers } }, (answer) => {
      let body = "";
      answer.on("data", (chunk) => {
        body += chunk;
      });
      answer.on("end", () => resolve({ status: answer.statusCode!, body }));
    });
    sent.on("error", reject);
    sent.end();
  });

describe("HTTPS", () => {
  test("serves the API and the ports of sandboxes below one domain, which answers name", async () => {
    const key = { "x-api-key": apiKey };
    expect((await get("api.wrenn.localhost", "/health")).status).toBe(200);
    const made = await fetch(`${plane.address}/v2/sandboxes`, {
      ...{ method: "POST", body: JSON.stringify({ templateID: "minimal" }), headers: key },
    });
    const { sandboxID: id, envdAccessToken } = (await made.json()) as rest.e2b.Sandbox;
    const shown = JSON.parse(
      (await get("api.wrenn.localhost", `/sandboxes/${id}`, key)).body,
    ) as rest.e2b.SandboxDetail;
    expect(shown.domain).toBe(`wrenn.localhost:${port()}`);
    const health = await get(`49983-${id}.wrenn.localhost`, "/health", { "x-access-token": envdAccessToken });
    expect(health.status).toBe(204);
    const closed = await get(`4-${id}.wrenn.localhost`, "/");
    expect([closed.status, JSON.parse(closed.body).port]).toEqual([502, 4]);
  });

  test("is not taken for another server", async () => {
    expect(await get("example.com", "/health").catch((thrown) => String(thrown))).toContain("altname");
  });
});

describe("HTTP/2", () => {
  let app: Bun.Server<undefined>;
  let host: string;
  let cut = () => {};
  beforeAll(async () => {
    app = Bun.serve({
      ...{ port: 0, hostname: "127.0.0.1", idleTimeout: 0 },
      async fetch(request) {
        const { pathname } = new URL(request.url);
        if (pathname === "/size") return new Response(`${(await request.arrayBuffer()).byteLength}`);
        if (pathname !== "/open") return new Response(pathname);
        return new Response(
          new ReadableStream({
            start(controller) {
              controller.enqueue("first");
              cut = () => controller.error(new Error("the sandbox was killed"));
            },
          }),
        );
      },
    });
    plane.host.apps.set(3000, `http://127.0.0.1:${app.port}`);
    const { sandboxID } = await plane.json<rest.e2b.Sandbox>(201, "POST", "/sandboxes", { templateID: "minimal" });
    host = `3000-${sandboxID}.wrenn.localhost`;
  });
  afterAll(() => app.stop(true));

  const session = () => connect(`https://127.0.0.1:${port()}`, { servername: host, ca });
  /** One request: its status, and its body or how it broke off. */
  const ask = (over: ClientHttp2Session, path: string, body?: Uint8Array, seen: (text: string) => void = () => {}) =>
    new Promise<{ status: number; body: string }>((resolve) => {
      const sent = over.request({ ":path": path, ":authority": host, ":method": body ? "POST" : "GET" });
      let [status, text] = [0, ""];
      sent.on("response", (head) => {
        status = Number(head[":status"]);
      });
      sent.on("data", (chunk) => {
        text += chunk;
        seen(text);
      });
      sent.on("error", () => resolve({ status, body: "broken off" }));
      sent.on("end", () => resolve({ status, body: text }));
      sent.end(body);
    });

  test("a hundred requests at once over one connection reach their sandbox, bodies too", async () => {
    const over = session();
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => ask(over, `/${i}`)));
    expect(answers).toEqual(answers.map((_, i) => ({ status: 200, body: `/${i}` })));
    const mib = new Uint8Array(2 ** 20);
    expect(await ask(over, "/size", mib)).toEqual({ status: 200, body: `${mib.length}` });
    over.destroy();
  });

  test("an answer comes as it is made, and breaks off when its guest's does", async () => {
    const over = session();
    const first = Promise.withResolvers<string>();
    const broken = ask(over, "/open", undefined, first.resolve);
    expect(await first.promise).toBe("first");
    cut();
    expect(await broken).toEqual({ status: 200, body: "broken off" });
    expect((await ask(over, "/after")).body).toBe("/after");
    over.destroy();
  });
});

describe("certificates", () => {
  const config = (more: object) => compile({ ...plane.options, tls: { listen: "127.0.0.1:0", dir, ...more } }).tls!;

  test("are kept from start to start, the keys for their owner alone; another domain gets another", async () => {
    const first = await certificateOf(config({}));
    expect(await certificateOf(config({}))).toEqual(first);
    for (const name of ["ca", "server"]) expect((await stat(`${dir}/${name}.key`)).mode & 0o777).toBe(0o600);
    const other = await certificateOf({ ...config({}), domain: "sandboxes.example" });
    expect(other.cert).not.toBe(first.cert);
    expect(await readFile(`${dir}/ca.pem`, "utf8")).toBe(ca);
  });

  test("may be the operator's own", async () => {
    const own = { cert: `${dir}/ca.pem`, key: `${dir}/ca.key` };
    expect((await certificateOf(config(own))).cert).toBe(ca);
    await expect(certificateOf(config({ ...own, cert: `${dir}/none` }))).rejects.toThrow("WRENN_TLS_CERT");
    expect(() => config({ cert: own.cert })).toThrow("key");
  });
});
