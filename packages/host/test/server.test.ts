import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { fromConnectError, headers, hostagent, newSandboxId, proxyPath } from "@wrenn/contract";
import { FakeWorld, fakeImage } from "../src/drivers/fake.ts";
import { type HostAgent, start } from "../src/index.ts";
import { quiet } from "./support/host.ts";
import { hostClient } from "./support/wire.ts";

const token = "a token of the test";
const world = new FakeWorld();
let dir: string;
let agent: HostAgent;
let client: ReturnType<typeof hostClient>;

const guest = (id: string, path: string, init: RequestInit = {}) =>
  fetch(`${agent.address}${proxyPath(id, 49983)}${path}`, {
    ...init,
    headers: { ...init.headers, [headers.hostToken]: token },
  });

beforeAll(async () => {
  dir = await mkdtemp(`${tmpdir()}/wrenn-server-`);
  await fakeImage(dir, "minimal");
  agent = await start({ dir, token, metricsToken: "of the scraper", listen: "127.0.0.1:0" }, quiet, {
    vmm: world.vmm,
    disks: world.disks,
    nets: world.nets,
  });
  client = hostClient(agent.address, token);
});

afterAll(async () => {
  await agent.stop({ pause: false });
  for (const pid of world.machines.keys()) await world.kill(pid);
  await rm(dir, { recursive: true, force: true }); // the killed machines' folders go by themselves meanwhile
});

const created = async () => (await client.createSandbox({ id: newSandboxId(), run: 1n, template: "minimal" })).sandbox!;

test("without the token nothing but health is answered", async () => {
  const thrown = await hostClient(agent.address, "wrong").getHost({}).catch(fromConnectError);
  expect(thrown).toMatchObject({ code: "unauthorized" });
  expect((await fetch(`${agent.address}${proxyPath("x", 80)}/`)).status).toBe(401);
  expect((await fetch(`${agent.address}/health`)).status).toBe(200);
});

test("a sandbox lives over the wire: create, get, pause, resume, list, destroy", async () => {
  const { id, defaultUser, state } = await created();
  expect({ defaultUser, state }).toEqual({ defaultUser: "root", state: hostagent.SandboxState.RUNNING });
  expect((await client.pauseSandbox({ id })).sandbox!.state).toBe(hostagent.SandboxState.PAUSED);
  expect((await client.resumeSandbox({ id, run: 2n, timeoutSec: 60 })).sandbox).toMatchObject({
    run: 2n,
    timeoutSec: 60,
  });
  expect((await client.setSandboxTimeout({ id, timeoutSec: 5 })).sandbox!.timeoutSec).toBe(5);
  await client.pingSandbox({ id });
  expect((await client.getSandbox({ id })).sandbox!.diskUsedBytes).toBeGreaterThan(0n);
  expect((await client.listSandboxes({})).sandboxes.map((sandbox) => sandbox.id)).toContain(id);
  await client.destroySandbox({ id });
  await client.destroySandbox({ id });
  expect(await client.getSandbox({ id }).catch(fromConnectError)).toMatchObject({ code: "not_found" });
});

test("refusals keep code, remedy and details", async () => {
  const { id } = await created();
  await client.pauseSandbox({ id });
  const again = await client.pauseSandbox({ id }).catch(fromConnectError);
  expect(again).toMatchObject({ code: "invalid_state", details: { id, state: "paused" } });
  expect(await client.pauseSandbox({ id: "no" }).catch(fromConnectError)).toMatchObject({ code: "invalid_request" });
  const tooBig = client.createSandbox({ id: newSandboxId(), run: 1n, template: "minimal", diskMib: 1 << 30 });
  expect(await tooBig.catch(fromConnectError)).toMatchObject({ code: "insufficient_storage" });
  await client.destroySandbox({ id });
});

test("a watcher gets present states, then every change in order", async () => {
  const { id } = await created();
  const seen: string[] = [];
  const stop = new AbortController();
  const watching = (async () => {
    for await (const { event } of client.watchSandboxes({}, { signal: stop.signal })) {
      if (event.case === "synced") seen.push("synced");
      if (event.case === "changed" && event.value.id === id) seen.push(hostagent.SandboxState[event.value.state]!);
    }
  })().catch(() => {});
  while (!seen.includes("synced")) await Bun.sleep(1);
  await client.pauseSandbox({ id });
  await client.destroySandbox({ id });
  while (seen.at(-1) !== "STOPPED") await Bun.sleep(1);
  stop.abort();
  await watching;
  expect(seen).toEqual(["RUNNING", "synced", "PAUSING", "PAUSED", "STOPPING", "STOPPED"]);
});

test("the proxy adds the sandbox's token, keeps the caller's user, and shows the host token to nobody", async () => {
  const { id } = await created();
  const seen = (await (await guest(id, "/headers", { headers: { authorization: "Basic dXNlcjo=" } })).json()) as Record<
    string,
    string
  >;
  expect(seen.authorization).toBe("Basic dXNlcjo=");
  expect(seen[headers.accessToken.toLowerCase()]!.length).toBeGreaterThan(20);
  expect(seen[headers.hostToken.toLowerCase()]).toBeUndefined();
  await client.destroySandbox({ id });
});

test("the proxy carries a body both ways unchanged", async () => {
  const { id } = await created();
  const word = "x".repeat(3 << 20);
  expect(await (await guest(id, "/memory", { method: "PUT", body: word })).text()).toBe(word);
  expect(await (await guest(id, "/memory")).text()).toBe(word);
  await client.destroySandbox({ id });
});

test("host-only paths, unknown sandboxes and paused ones are refused", async () => {
  const { id } = await created();
  for (const path of ["/init", "/init/", "/%69nit", "//init", "/.//init", "/fsfreeze", "/snapshot/prepare"])
    expect((await guest(id, path, { method: "POST" })).status).toBe(404);
  expect((await guest(newSandboxId(), "/health")).status).toBe(404);
  expect((await guest("not-an-id", "/health")).status).toBe(400);
  await client.pauseSandbox({ id });
  expect((await guest(id, "/health")).status).toBe(409);
  await client.destroySandbox({ id });
});

test("a port of the guest is opened on first use, WebSockets included", async () => {
  const { id } = await created();
  const at = (path: string) => `${agent.address}${proxyPath(id, 8000)}${path}`;
  const answer = await fetch(at("/headers"), {
    headers: { [headers.hostToken]: token, [headers.accessToken]: "mine" },
  });
  expect(((await answer.json()) as Record<string, string>)[headers.accessToken.toLowerCase()]).toBe("mine");
  const options = { headers: { [headers.hostToken]: token } } as unknown as string[];
  const socket = new WebSocket(at("/echo").replace("http", "ws"), options);
  const heard = Promise.withResolvers<unknown>();
  socket.onmessage = ({ data }) => heard.resolve(data);
  socket.onopen = () => socket.send("over the bridge");
  expect(await heard.promise).toBe("over the bridge");
  const closed = new Promise((resolve) => socket.addEventListener("close", resolve));
  await client.pauseSandbox({ id });
  await closed; // the sandbox went: so does the connection
  await client.destroySandbox({ id });
});

test("the load of a sandbox is told, and an unknown one refused", async () => {
  const { id } = await created();
  expect(await client.getSandboxMetrics({ id })).toMatchObject({ cpuCount: 1 });
  const refused = await client.getSandboxMetrics({ id: newSandboxId() }).catch(fromConnectError);
  expect(refused).toMatchObject({ code: "not_found" });
});

test("a scraper with its own token reads the host's metrics and nothing else", async () => {
  await created();
  const scrape = (path: string, authorization: string) =>
    fetch(`${agent.address}${path}`, { headers: { authorization } });
  expect((await scrape("/metrics", "Bearer wrong")).status).toBe(401);
  const text = await (await scrape("/metrics", "Bearer of the scraper")).text();
  expect(Number(/^wrenn_host_sandboxes\{state="running"\} (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(0);
  expect(text).toContain("wrenn_host_memory_free_bytes ");
  expect((await scrape(proxyPath(newSandboxId(), 80), "Bearer of the scraper")).status).toBe(401);
});

test("waiting for a port answers when something listens, says when nothing did, and is activity", async () => {
  const { id } = await created();
  world.closed.add(3000);
  const thrown = await client.waitForPort({ id, port: 3000, timeoutMs: 100 }).catch(fromConnectError);
  expect(thrown).toMatchObject({ code: "timeout", details: { port: "3000" } });
  const before = (await client.getSandbox({ id })).sandbox!.lastActiveAtMs;
  const waiting = client.waitForPort({ id, port: 3000, timeoutMs: 5_000 });
  await Bun.sleep(50);
  world.closed.delete(3000);
  await waiting;
  expect((await client.getSandbox({ id })).sandbox!.lastActiveAtMs).toBeGreaterThan(before);
  await client.pauseSandbox({ id });
  const paused = await client.waitForPort({ id, port: 3000, timeoutMs: 100 }).catch(fromConnectError);
  expect(paused).toMatchObject({ code: "invalid_state" });
});
