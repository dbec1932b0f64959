import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
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
    expect(health.status).toBe(200);
    const closed = await get(`4-${id}.wrenn.localhost`, "/");
    expect([closed.status, JSON.parse(closed.body).port]).toEqual([502, 4]);
  });

  test("is not taken for another server", async () => {
    expect(await get("example.com", "/health").catch((thrown) => String(thrown))).toContain("altname");
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
