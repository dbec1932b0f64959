import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { SandboxId } from "@wrenn/contract";
import { firecracker, firecrackerDrivers, jailer, networks, qemuDrivers } from "../support/bench.ts";
import { left } from "../support/left.ts";
import { RealHost } from "../support/real-host.ts";
import { makeWorld, world } from "../support/wan.ts";

/** Firecracker in its jail where it is there; else everything that does not need it, on QEMU with KVM. */
const what = firecracker
  ? jailer
    ? "Firecracker, jailed"
    : "Firecracker"
  : "QEMU with KVM (Firecracker is missing: FIRECRACKER_BIN)";

let host: RealHost;

beforeAll(async () => {
  await makeWorld();
  host = await RealHost.start(async () => {
    const nets = await networks("sandboxes");
    return firecracker ? firecrackerDrivers(nets, { jailed: !!jailer }) : qemuDrivers(nets);
  });
  const { id } = await host.create(); // freezes the template
  await host.sandboxes.destroy(id);
}, 300_000);

afterAll(async () => {
  await host[Symbol.asyncDispose]();
  expect(left()).toEqual({ devices: [], loops: [], networks: [], slots: [], vmms: [], groups: [] });
});

const keep = (id: SandboxId, word: string) =>
  host.sh(id, `echo ${word} >/dev/shm/word; echo ${word} >/root/word; sync`);
const kept = async (id: SandboxId) => (await host.sh(id, "cat /dev/shm/word /root/word")).out;

describe(`sandboxes on ${what}`, () => {
  test("memory and disk survive pause and resume, twice over", async () => {
    const { id } = await host.create();
    await keep(id, "one");
    await host.sandboxes.pause(id);
    expect(left().vmms).toEqual([]);
    await host.sandboxes.resume(id, 2);
    expect(await kept(id)).toBe("one\none\n");
    await keep(id, "two");
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 3);
    expect(await kept(id)).toBe("two\ntwo\n");
    await host.sandboxes.destroy(id);
  });

  test("a checkpoint of a running sandbox: it goes on, a fork starts there, and rolling back returns there", async () => {
    const { id } = await host.create();
    await keep(id, "before");
    const { id: snapshot } = await host.sandboxes.checkpoint(id);
    await keep(id, "after");
    const fork = await host.create({ snapshot });
    expect(await kept(fork.id)).toBe("before\nbefore\n");
    expect(await kept(id)).toBe("after\nafter\n");
    await host.sandboxes.rollback(id, 2, snapshot);
    expect(await kept(id)).toBe("before\nbefore\n");
    for (const one of [id, fork.id]) await host.sandboxes.destroy(one);
    await host.sandboxes.deleteSnapshot(snapshot);
  });

  test("each of two sandboxes has an identity of its own", async () => {
    const [a, b] = await Promise.all([host.create(), host.create()]);
    const facts = (id: SandboxId) => host.sh(id, "hostname; cat /etc/machine-id; od -An -N16 -tx1 /dev/urandom");
    expect((await facts(a.id)).out).not.toBe((await facts(b.id)).out);
    for (const { id } of [a, b]) await host.sandboxes.destroy(id);
  });

  test("an agent killed and started again adopts what runs, with its network and disk", async () => {
    const { id } = await host.create();
    await keep(id, "alive");
    const { pid } = host.sandboxes.find(id).machine.vm;
    await host.restart();
    expect(host.sandboxes.find(id).machine.vm.pid).toBe(pid);
    expect(await kept(id)).toBe("alive\nalive\n");
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 2);
    expect(await kept(id)).toBe("alive\nalive\n");
    await host.sandboxes.destroy(id);
  });

  test("a VMM killed leaves its sandbox in error, and nothing of it on the host", async () => {
    const { id } = await host.create();
    process.kill(host.sandboxes.find(id).machine.vm.pid, "SIGKILL");
    for (let i = 0; i < 200 && host.sandboxes.find(id).record.state === "running"; i++) await Bun.sleep(50);
    expect(host.sandboxes.find(id).record.state).toBe("error");
    expect(left()).toMatchObject({ vmms: [], groups: [] });
    await host.sandboxes.destroy(id);
  });
});

/** Opens a connection to each address from inside the guest; gives those that answered. */
async function reachable(id: SandboxId, addresses: readonly string[]): Promise<string[]> {
  const one = (ip: string) => `(timeout 3 bash -c 'exec 3<>/dev/tcp/${ip}/80' 2>/dev/null && echo ${ip}) &`;
  const { out } = await host.sh(id, `${addresses.map(one).join("\n")}\nwait`);
  return out.split("\n").filter(Boolean).sort();
}

describe("a guest's network", () => {
  test("reaches public addresses and no other: not metadata, private ranges, this machine, another sandbox", async () => {
    const [a, b] = [await host.create(), await host.create()];
    const other = host.sandboxes.find(b.id).machine.nic.reach(80)!.split(":")[0]!;
    const near = ["169.254.0.22", "10.12.0.0", "10.12.0.2", "10.12.0.4", "127.0.0.2"];
    expect(await reachable(a.id, [...Object.values(world), other, ...near])).toEqual(
      [world.internet, world.elsewhere].sort(),
    );
    expect((await host.sh(a.id, "timeout 3 bash -c 'exec 3<>/dev/tcp/fe80::1%eth0/80'")).code).not.toBe(0);
    for (const { id } of [a, b]) await host.sandboxes.destroy(id);
  });

  test("names are answered by the host's resolver, and never with an address below the floor", async () => {
    const { id } = await host.create();
    const ask = async (name: string) => (await host.sh(id, `getent ahostsv4 ${name} | head -1`)).out;
    expect(await ask("good.test")).toContain(world.internet);
    expect(await ask("rebind.test")).toBe("");
    await host.sandboxes.destroy(id);
  });

  test("a policy counts at once, while it runs: nothing, one range, one name, everything but", async () => {
    const { id } = await host.create();
    const { nic } = host.sandboxes.find(id).machine;
    const both = [world.internet, world.elsewhere];
    await nic.setPolicy!({ internet: false, allow: [], deny: [] });
    expect(await reachable(id, both)).toEqual([]);
    await nic.setPolicy!({ internet: false, allow: ["203.0.113.0/24"], deny: [] });
    expect(await reachable(id, both)).toEqual([world.elsewhere]);
    await nic.setPolicy!({ internet: false, allow: ["good.test"], deny: [] });
    expect((await host.sh(id, "getent ahostsv4 elsewhere.test")).code).not.toBe(0);
    expect((await host.sh(id, "getent ahostsv4 good.test")).code).toBe(0);
    expect(await reachable(id, both)).toEqual([world.internet]);
    await nic.setPolicy!({ internet: true, allow: [], deny: ["198.51.100.0/24"] });
    expect(await reachable(id, both)).toEqual([world.elsewhere]);
    await host.sandboxes.destroy(id);
  });

  test("what goes through it is counted", async () => {
    const { id } = await host.create();
    const { nic } = host.sandboxes.find(id).machine;
    const before = await nic.counters!();
    await host.sh(id, "head -c 200000 /dev/zero");
    expect((await nic.counters!()).sentBytes - before.sentBytes).toBeGreaterThan(200_000);
    await host.sandboxes.destroy(id);
  });
});
