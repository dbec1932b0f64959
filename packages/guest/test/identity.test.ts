import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sign } from "../src/files/signature.ts";
import { runRestoreHooks } from "../src/identity/hooks.ts";
import { withOwnName } from "../src/identity/machine.ts";
import { nanosecondsOf } from "../src/identity/request.ts";
import { Identity } from "../src/identity/state.ts";
import { type RunningAgent, start } from "../src/index.ts";
import { Registry } from "../src/processes/registry.ts";
import { listen } from "../src/server.ts";
import { callStream, callUnary, envelope, envelopesOf } from "./support/raw.ts";

const folder = mkdtempSync(join(tmpdir(), "wrenn-init-"));
let agent: RunningAgent | undefined;
let url = "";

beforeEach(async () => {
  await agent?.stop();
  agent = start({ port: 0, host: "127.0.0.1", isNotVm: true });
  url = agent.address;
});
afterAll(async () => {
  await agent?.stop();
  rmSync(folder, { recursive: true });
});

const init = (body: object | string, headers: Record<string, string> = {}) => callUnary(`${url}/init`, body, headers);
const token = (value: string) => ({ "X-Access-Token": value });
const echo = async (text: string, headers: Record<string, string> = {}) => {
  const request = { process: { cmd: "sh", args: ["-c", `echo ${text}`] } };
  const events = await envelopesOf(await callStream(`${url}/process.Process/Start`, envelope(request), headers));
  return Buffer.from(events[1]!.json.event.data.stdout, "base64").toString().trim();
};

test("health needs nothing and tells the version", async () => {
  const answer = await fetch(`${url}/health`);
  expect(answer.status).toBe(200);
  expect(await answer.json()).toEqual({
    version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
    envdVersion: expect.stringMatching(/^0\.6\.\d+$/),
  });
});

test("health has no body for HEAD, is for any origin, and takes nothing", async () => {
  const head = await fetch(`${url}/health`, { method: "HEAD" });
  expect([head.status, await head.text(), head.headers.get("access-control-allow-origin")]).toEqual([200, "", "*"]);
  expect((await fetch(`${url}/health`, { method: "OPTIONS" })).status).toBe(204);
  expect((await fetch(`${url}/health`, { method: "POST" })).status).toBe(404);
});

test("an agent whose identity could not be written down serves nobody, and is not healthy", async () => {
  const identity = new Identity();
  const failing = { identity, registry: new Registry(), rpc: async () => new Response(), ownsMachine: false };
  const server = listen(failing, { port: 0, host: "127.0.0.1" });
  try {
    const statuses = () => Promise.all(["health", "envs"].map(async (path) => (await fetch(server.url + path)).status));
    expect(await statuses()).toEqual([200, 200]);
    identity.fail(new Error("the disk is full"));
    expect(await statuses()).toEqual([500, 500]);
  } finally {
    await server.stop(true);
  }
});

test("metrics have every field the platforms ask for", async () => {
  const metrics = (await (await fetch(`${url}/metrics`)).json()) as Record<string, number>;
  expect(Object.keys(metrics).toSorted()).toEqual(
    "cpu_count cpu_used_pct disk_total disk_used mem_cache mem_cache_mib mem_total mem_total_mib mem_used mem_used_mib net_rx net_tx ts".split(
      " ",
    ),
  );
  for (const value of Object.values(metrics)) expect(value).toBeGreaterThanOrEqual(0);
  expect(metrics.mem_used!).toBeLessThan(metrics.mem_total!);
});

test("the log tells commands as people write them, and how they ended", async () => {
  const { last } = (await (await fetch(`${url}/logs`)).json()) as { last: number };
  await echo("$HOME");
  const since = async (after: number) =>
    (await (await fetch(`${url}/logs?after=${after}`)).json()) as { last: number; happenings: { message: string }[] };
  const told = await since(last);
  expect(told.happenings.map(({ message }) => message)).toEqual([
    "started: echo $HOME",
    "ended: echo $HOME: exit status 0",
  ]);
  expect((await since(told.last)).happenings).toEqual([]);
});

test("hooks run in order, those that can be, and not for a rehearsal", async () => {
  const hooks = `${folder}/hooks`;
  const write = (name: string, mode: number) =>
    writeFileSync(`${hooks}/${name}`, `#!/bin/sh\necho ${name} $WHO >> ${folder}/ran\n`, { mode });
  mkdirSync(hooks);
  write("20-second", 0o755);
  write("10-first", 0o755);
  write("15-not", 0o644);
  await runRestoreHooks({ WHO: "nobody" }, true, hooks);
  await runRestoreHooks({ WHO: "me" }, false, hooks);
  expect(readFileSync(`${folder}/ran`, "utf8")).toBe("10-first me\n20-second me\n");
  await runRestoreHooks({}, false, `${folder}/no such folder`);
  await runRestoreHooks({}, false, `${hooks}/10-first`); // a file in the folder's place
});

describe("init", () => {
  test("what was done in a rehearsal is forgotten with the identity that follows it", async () => {
    const entropy = Buffer.alloc(32, 1).toString("base64");
    const at = (second: number) => `2026-01-01T00:00:0${second}Z`;
    const told = async () => {
      const { happenings } = (await (await fetch(`${url}/logs`)).json()) as { happenings: { message: string }[] };
      return happenings.map(({ message }) => message).filter((message) => message.includes("practice"));
    };
    const attach = async (tag: string) =>
      (await envelopesOf(await callStream(`${url}/process.Process/Connect`, envelope({ process: { tag } })))).at(-1)!;
    const practise = async (tag: string) => {
      const process = { cmd: "sh", args: ["-c", `echo practice`] };
      await envelopesOf(await callStream(`${url}/process.Process/Start`, envelope({ process, tag })));
    };
    expect((await init({ entropy, timestamp: at(1), rehearsal: true })).status).toBe(200);
    await practise("rehearsed");
    expect(await told()).toHaveLength(2);
    expect((await init({ entropy, timestamp: at(2) })).status).toBe(200);
    expect(await told()).toEqual([]);
    expect((await attach("rehearsed")).json.error.code).toBe("not_found");
    await practise("real");
    expect((await init({ entropy, timestamp: at(3) })).status).toBe(200);
    expect(await told()).toHaveLength(2);
    expect((await attach("real")).json.error).toBeUndefined();
  });

  test("environment, working directory and user take effect on later processes", async () => {
    expect((await init({ envVars: { PLACE: "here" }, defaultWorkdir: folder })).status).toBe(204);
    expect(await echo("$PLACE $PWD")).toBe(`here ${folder}`);
    await init({ envVars: { OTHER: "too" } });
    expect(await echo("$PLACE $OTHER")).toBe("here too");
    expect(await (await fetch(`${url}/envs`)).json()).toEqual({ PLACE: "here", OTHER: "too" });
  });

  test("an empty body asks for nothing", async () => {
    expect((await init("")).status).toBe(204);
    expect((await init({})).status).toBe(204);
  });

  test("once a token is set, everything but health asks for it, and only its holder may change it", async () => {
    expect((await init({ accessToken: "secret" })).status).toBe(204);
    const list = (headers: Record<string, string> = {}) => callUnary(`${url}/process.Process/List`, {}, headers);
    expect((await list()).status).toBe(401);
    expect((await list(token("wrong"))).status).toBe(401);
    expect((await list(token("secret"))).status).toBe(200);
    expect((await fetch(`${url}/envs`)).status).toBe(401);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await init({ envVars: { X: "1" } })).status).toBe(401);
    expect((await init({ accessToken: "other" })).status).toBe(401);
    expect((await init({ accessToken: "secret" })).status).toBe(204);
    expect((await init({ accessToken: "other" }, token("secret"))).status).toBe(204);
    expect((await list(token("other"))).status).toBe(200);
    expect(await (await fetch(`${url}/envs`, { headers: token("other") })).json()).toEqual({});
  });

  test("a call that is not newer than the last changes nothing, and fails where a restore depends on it", async () => {
    const at = (second: string) => `2026-01-01T00:00:${second}Z`;
    await init({ envVars: { N: "new" }, timestamp: at("10.000000002") });
    for (const timestamp of [at("10.000000002"), at("10.000000001"), "1767225609"])
      expect((await init({ envVars: { N: "old" }, timestamp })).status).toBe(204);
    expect(await echo("$N")).toBe("new");
    const entropy = Buffer.alloc(32, 1).toString("base64");
    expect((await init({ entropy, timestamp: at("09") })).status).toBe(409);
    await init({ envVars: { N: "newer" }, timestamp: "2026-01-01T01:00:11+01:00" });
    expect(await echo("$N")).toBe("newer");
  });

  test("entropy that the kernel was not given is not claimed", async () => {
    const answer = await init({ entropy: Buffer.alloc(32, 1).toString("base64"), sandboxId: "abc" });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ reseeded: false, version: expect.any(String) });
    expect(await echo("$WRENN_SANDBOX_ID $E2B_SANDBOX")).toBe("abc true");
  });

  test.each([
    ["no JSON", "{oops"],
    ["a list", "[]"],
    ["a token that is no text", { accessToken: 5 }],
    ["a variable that is no text", { envVars: { A: 1 } }],
    ["an impossible name", { envVars: { "A=B": "x" } }],
    ["an unknown user", { defaultUser: "nobody-here" }],
    ["a time that is none", { timestamp: "yesterday" }],
    ["a host name that is none", { hostname: "a b" }],
    ["a machine id that is none", { machineId: "xyz" }],
    ["too little entropy", { entropy: "AAAA" }],
  ])("%s is refused and nothing changes", async (_title, body) => {
    const whole = typeof body === "string" ? body : { envVars: { CHANGED: "yes" }, ...body };
    expect((await init(whole)).status).toBe(400);
    expect(await (await fetch(`${url}/envs`)).json()).toEqual({});
  });
});

test("times are read to the nanosecond", () => {
  expect(nanosecondsOf("1970-01-01T00:00:01.000000001Z")).toBe(1_000_000_001n);
  expect(nanosecondsOf("1970-01-01T01:00:00.5+01:00")).toBe(500_000_000n);
  expect(nanosecondsOf("12")).toBe(12_000_000_000n);
  expect(nanosecondsOf("12.5")).toBeUndefined();
});

test("the host's own name replaces the one before and leaves other lines alone", () => {
  const hosts = "127.0.0.1 localhost\n127.0.1.1 old\n::1 ip6-localhost\n";
  expect(withOwnName(hosts, "new")).toBe("127.0.0.1 localhost\n::1 ip6-localhost\n127.0.1.1\tnew\n");
});

describe("signed file URLs", () => {
  const path = join(folder, "signed");
  const files = (query: Record<string, string>, more: RequestInit = {}) =>
    fetch(`${url}/files?${new URLSearchParams({ path, ...query })}`, more);
  const post = { method: "POST", body: "content", headers: { "Content-Type": "application/octet-stream" } };

  beforeEach(async () => {
    await Bun.write(path, "signed content");
    await init({ accessToken: "secret" });
  });

  test("a signature opens exactly its path and operation; the token needs none", async () => {
    const read = sign([path, "read", "", "secret"]);
    expect(read).toMatch(/^v1_[A-Za-z0-9+/]{43}$/);
    expect(await (await files({ signature: read })).text()).toBe("signed content");
    expect((await files({ signature: read }, post)).status).toBe(401);
    expect((await files({ signature: sign([path, "write", "", "secret"]) }, post)).status).toBe(200);
    expect((await files({ signature: sign(["/other", "read", "", "secret"]) })).status).toBe(401);
    expect((await files({})).status).toBe(401);
    expect((await files({}, { headers: token("secret") })).status).toBe(200);
    expect((await files({ signature: read }, { headers: token("wrong") })).status).toBe(401);
  });

  test("an expiry is part of what is signed, and is told with the text clients compare", async () => {
    const now = Math.floor(Date.now() / 1000);
    const signed = (expiry: number, shown = expiry) =>
      files({ signature: sign([path, "read", "", "secret", expiry]), signature_expiration: String(shown) });
    expect((await signed(now + 100)).status).toBe(200);
    expect((await signed(now - 100, now + 100)).status).toBe(401);
    const late = await signed(now - 100);
    expect(late.status).toBe(401);
    expect(await late.json()).toEqual({ code: 401, message: "signature is already expired" });
  });
});
