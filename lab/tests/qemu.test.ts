import { afterAll, beforeAll, expect, test } from "bun:test";
import { networks, qemuDrivers } from "../support/bench.ts";
import { leftInTheEnd } from "../support/left.ts";
import { RealHost } from "../support/real-host.ts";
import { makeWorld, world } from "../support/wan.ts";

/** QEMU with real KVM, on production's networks: what a host without Firecracker runs (WRENN_NETWORK=netns-tap). */
let host: RealHost;

beforeAll(async () => {
  await makeWorld();
  host = await RealHost.start(async () => qemuDrivers(await networks("qemu", 0)));
}, 120_000);

test("on a tap a guest of QEMU reaches the world and not the host, keeps its memory over a pause, and leaves nothing", async () => {
  const { id } = await host.create();
  const one = (ip: string) => `(timeout 10 bash -c 'exec 3<>/dev/tcp/${ip}/80' 2>/dev/null && echo ${ip}) &`;
  const { out } = await host.sh(id, `${[world.internet, world.host, world.metadata].map(one).join("\n")}\nwait`);
  expect(out.trim()).toBe(world.internet);
  await host.sh(id, "echo word >/dev/shm/word");
  await host.sandboxes.find(id).machine.nic.setPolicy!({ internet: false, allow: [], deny: [] });
  expect((await host.sh(id, `${one(world.internet)}\nwait`)).out).toBe("");
  await host.sandboxes.pause(id);
  await host.sandboxes.resume(id, 2);
  expect((await host.sh(id, "cat /dev/shm/word")).out).toBe("word\n");
  await host.sandboxes.destroy(id);
}, 300_000);

afterAll(async () => {
  await host[Symbol.asyncDispose]();
  expect(await leftInTheEnd()).toMatchObject({ networks: [], slots: [], vmms: [] });
});
