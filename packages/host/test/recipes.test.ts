import { describe, expect, test } from "bun:test";
import { newSandboxId, type SandboxId, type WrennError } from "@wrenn/contract";
import { FakeHost, nothing, until } from "./support/host.ts";

const codeOf = (thrown: unknown) => (thrown as WrennError).code;
const failing = async (promise: Promise<unknown>) => {
  const thrown = await promise.then(
    () => undefined,
    (error) => error,
  );
  expect(thrown).toBeDefined();
  return thrown;
};

describe("a sandbox's life", () => {
  test("create gives identity, pause keeps memory, resume brings it back, destroy leaves nothing", async () => {
    await using host = await FakeHost.start();
    const { id, token } = await host.create({ envs: { GREETING: "hello" } });
    await host.guest(id, "/memory", { method: "PUT", body: "remember me" });
    expect((await host.sandboxes.pause(id)).state).toBe("paused");
    expect(host.world.machines.size).toBe(0);
    expect(codeOf(await failing(host.guest(id, "/memory")))).toBe("invalid_state");
    expect((await host.sandboxes.resume(id, 2)).state).toBe("running");
    expect(await (await host.guest(id, "/memory")).text()).toBe("remember me");
    const [machine] = [...host.world.machines.values()];
    expect(machine!.memory.init).toMatchObject({ accessToken: token, sandboxId: id, envVars: { GREETING: "hello" } });
    expect(Buffer.from(machine!.memory.init!.entropy!, "base64").length).toBeGreaterThanOrEqual(32);
    expect((await host.leftovers()).snapshots).toBe(0);
    await host.sandboxes.destroy(id);
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("two sandboxes get different tokens, machine ids and entropy", async () => {
    await using host = await FakeHost.start();
    await Promise.all([host.create(), host.create()]);
    const [a, b] = [...host.world.machines.values()].map((machine) => machine.memory.init!);
    for (const key of ["accessToken", "machineId", "entropy", "hostname"] as const) expect(a![key]).not.toBe(b![key]!);
  });

  test("a guest that does not acknowledge its entropy is destroyed and never handed out", async () => {
    await using host = await FakeHost.start();
    host.world.acknowledges = false;
    expect(codeOf(await failing(host.create()))).toBe("agent_error");
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("creating again with the same run answers the same; with another it is a conflict", async () => {
    await using host = await FakeHost.start();
    const id = newSandboxId();
    const [first, second] = await Promise.all([host.create({}, id), host.create({}, id)]);
    expect(second).toEqual(first);
    expect(host.world.machines.size).toBe(1);
    const { spec } = host.sandboxes.find(id).record;
    expect(codeOf(await failing(host.sandboxes.create(id, 7, spec)))).toBe("conflict");
  });

  test("an unknown template is not found, names the known ones, and leaves nothing", async () => {
    await using host = await FakeHost.start();
    const error = await failing(host.create({ template: "nope" }));
    expect(codeOf(error)).toBe("not_found");
    expect((error as WrennError).remedy).toContain("minimal");
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("more memory than the host has is refused before anything starts", async () => {
    await using host = await FakeHost.start();
    host.setAvailable(() => 1_000);
    expect(codeOf(await failing(host.create({ memoryMib: 1_000 })))).toBe("no_hosts_available");
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("a disk larger than the template's is grown before the guest runs, and only once", async () => {
    await using host = await FakeHost.start();
    const effects: string[] = [];
    host.world.before = (effect) => void effects.push(effect);
    const { id } = await host.create({ diskMib: 300, extraDiskMib: 299 });
    const [machine] = [...host.world.machines.values()];
    expect([machine!.diskMib, machine!.memory.init!.diskBytes]).toEqual([300, 300 * 2 ** 20]);
    expect(effects.indexOf("vm.growDisk")).toBeLessThan(effects.lastIndexOf("vm.cont"));
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 2);
    expect(effects.filter((effect) => effect === "vm.growDisk").length).toBe(1);
    expect([...host.world.machines.values()][0]!.memory.init!.diskBytes).toBeUndefined();
  });

  test("a time-out pauses or kills, as asked, and activity puts it off", async () => {
    await using host = await FakeHost.start();
    const paused = await host.create({ timeoutSec: 1 });
    const killed = await host.create({ timeoutSec: 1, timeoutAction: "kill" });
    const busy = await host.create({ timeoutSec: 1 });
    host.sandboxes.find(busy.id).activeRequests = 1; // a command that runs is activity
    await Bun.sleep(2_200);
    expect(host.sandboxes.find(paused.id).record).toMatchObject({ state: "paused", reason: "ttl_expired" });
    expect(() => host.sandboxes.find(killed.id)).toThrow();
    expect(host.sandboxes.find(busy.id).record.state).toBe("running");
  });

  test("eight pauses later the disk layers are merged", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    for (let run = 2; run < 12; run++) {
      await host.sandboxes.pause(id);
      await host.sandboxes.resume(id, run);
    }
    expect((await host.leftovers()).layers).toBeLessThanOrEqual(9);
  });
});

describe("a VM that ends by itself", () => {
  test("killed from outside: the sandbox is in error and says why; destroy still works", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await host.world.kill([...host.world.machines.keys()][0]!);
    await until("the sandbox is in error", () => host.sandboxes.find(id).record.state === "error");
    expect(host.sandboxes.find(id).record.reason).toBe("the VM ended: killed by SIGKILL");
    await host.sandboxes.destroy(id);
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("switched off from inside: it is stopped and nothing is left", async () => {
    await using host = await FakeHost.start();
    await host.create();
    await host.world.kill([...host.world.machines.keys()][0]!, "exit status 0");
    await until("nothing is left", async () => Bun.deepEquals(await host.leftovers(), nothing));
  });
});

describe("two calls at once on one sandbox", () => {
  type Call = (host: FakeHost, id: SandboxId) => Promise<unknown>;
  const checkpointOf = (host: FakeHost) =>
    host.sandboxes.journal.snapshots.all().find((row) => row.kind === "checkpoint")!;
  const calls: Record<string, Call> = {
    pause: (host, id) => host.sandboxes.pause(id),
    resume: (host, id) => host.sandboxes.resume(id, 2),
    checkpoint: (host, id) => host.sandboxes.checkpoint(id),
    rollback: (host, id) => host.sandboxes.rollback(id, 3, checkpointOf(host).id),
    fork: (host) => host.create({ snapshot: checkpointOf(host).id }),
    "delete its checkpoint": (host) => host.sandboxes.deleteSnapshot(checkpointOf(host).id),
    "set its time-out": (host, id) => host.sandboxes.setTimeout(id, 900),
    destroy: (host, id) => host.sandboxes.destroy(id),
  };
  const refusals = ["invalid_state", "not_found"];
  for (const from of ["running", "paused"] as const)
    for (const [first, callFirst] of Object.entries(calls))
      for (const [second, callSecond] of Object.entries(calls))
        test(`${from}: ${first} and ${second} end in one clear state`, async () => {
          await using host = await FakeHost.start();
          const { id } = await host.create();
          await host.guest(id, "/memory", { method: "PUT", body: "kept" });
          await host.sandboxes.checkpoint(id);
          if (from === "paused") await host.sandboxes.pause(id);
          const both = [callFirst, callSecond].map((call) => Promise.resolve().then(() => call(host, id)));
          for (const result of await Promise.allSettled(both))
            if (result.status === "rejected") expect(refusals).toContain(codeOf(result.reason));
          const isGone = first === "destroy" || second === "destroy";
          const state = host.sandboxes.list().find((record) => record.id === id)?.state;
          expect(isGone ? [undefined] : ["running", "paused"]).toContain(state);
          const running = host.sandboxes.list().filter((record) => record.state === "running");
          expect((await host.leftovers()).machines).toBe(running.length);
          if (state === "paused") await host.sandboxes.resume(id, 9);
          for (const record of host.sandboxes.list())
            expect(await (await host.guest(record.id, "/memory")).text()).toBe("kept");
          for (const record of host.sandboxes.list()) await host.sandboxes.destroy(record.id);
          for (const row of host.sandboxes.journal.snapshots.all()) await host.sandboxes.deleteSnapshot(row.id);
          expect(await host.leftovers()).toEqual(nothing);
        });
});
