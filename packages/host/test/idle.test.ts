import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { agentPort, headers, newSandboxId, proxyPath, type SandboxId } from "@wrenn/contract";
import { FakeWorld, fakeImage } from "../src/drivers/fake.ts";
import { type HostAgent, start } from "../src/index.ts";
import { Sampler } from "../src/metrics/sampler.ts";
import { FakeHost, quiet } from "./support/host.ts";
import { hostClient } from "./support/wire.ts";

const token = "a token of the test";
const world = new FakeWorld();
let dir: string;
let agent: HostAgent;
let client: ReturnType<typeof hostClient>;

beforeAll(async () => {
  dir = await mkdtemp(`${tmpdir()}/wrenn-idle-`);
  await fakeImage(dir, "minimal");
  const drivers = { vmm: world.vmm, disks: world.disks, nets: world.nets };
  agent = await start({ dir, token, listen: "127.0.0.1:0", poolSize: "0" }, quiet, drivers);
  client = hostClient(agent.address, token);
});

afterAll(async () => {
  await agent.stop({ pause: false });
  for (const pid of world.machines.keys()) await world.kill(pid);
  await rm(dir, { recursive: true });
});

const withToken = { headers: { [headers.hostToken]: token } };
const reach = (id: SandboxId, port: number, path: string) =>
  fetch(`${agent.address}${proxyPath(id, port)}${path}`, withToken);

/** Far longer than the time-out of a second. */
const useMs = 2_600;

/** What people do with a sandbox for `useMs`, each in its own way. */
const uses: Record<string, (id: SandboxId) => Promise<void>> = {
  "a command that runs and says nothing": async (id) =>
    void (await (await reach(id, agentPort, `/slow?${useMs}`)).text()),
  "files that come and go": async (id) => {
    for (const until = Date.now() + useMs; Date.now() < until; await Bun.sleep(300))
      await (await reach(id, agentPort, "/files?path=/x")).text();
  },
  "a page of a port that takes long": async (id) => void (await (await reach(id, 8080, `/slow?${useMs}`)).text()),
  "requests to a port": async (id) => {
    for (const until = Date.now() + useMs; Date.now() < until; await Bun.sleep(300))
      await (await reach(id, 8080, "/")).text();
  },
  "an open WebSocket to a port": async (id) => {
    const url = `${agent.address.replace("http", "ws")}${proxyPath(id, 8080)}/`;
    const socket = new WebSocket(url, withToken as unknown as string[]);
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    await Bun.sleep(useMs);
    socket.close();
  },
};

test("each kind of use keeps a sandbox running; a second after its end it is paused, as one is that nobody used", async () => {
  const create = async () => {
    const id = newSandboxId();
    await client.createSandbox({ id, run: 1n, template: "minimal", timeoutSec: 1 });
    return id;
  };
  const state = async (id: SandboxId) => (await client.getSandbox({ id })).sandbox!;
  const unused = await create();
  const used = await Promise.all(
    Object.entries(uses).map(async ([what, use]) => {
      const id = await create();
      await use(id);
      return { what, after: (await state(id)).reason, id };
    }),
  );
  expect((await state(unused)).reason).toBe("ttl_expired");
  expect(used.map(({ what, after }) => [what, after])).toEqual(used.map(({ what }) => [what, ""]));
  for (const { id } of used) while ((await state(id)).reason !== "ttl_expired") await Bun.sleep(50);
}, 120_000);

test("a guest that computes with nobody connected is in use; one whose processor idles is not", async () => {
  await using host = await FakeHost.start();
  const { now } = Date;
  let clock = now();
  const shares = { busy: 0.5, idle: 0.03 };
  const [busy, idle] = [(await host.create()).id, (await host.create()).id];
  const pidOf = (id: SandboxId) => host.sandboxes.find(id).machine.vm.pid;
  const usage = (pid: number) => ({ cpuMs: clock * (pid === pidOf(busy) ? shares.busy : shares.idle), memBytes: 1 });
  await using sampler = await Sampler.start(host.sandboxes, quiet, usage);
  const begun = clock;
  try {
    for (let second = 0; second < 20; second++) {
      Date.now = () => clock;
      sampler.sample();
      clock += 1_000;
    }
    const last = (id: SandboxId) => host.sandboxes.find(id).record.lastActiveAtMs - begun;
    expect(last(busy)).toBeGreaterThan(15_000);
    expect(last(idle)).toBeLessThan(1_000);
  } finally {
    Date.now = now;
  }
});
