import { describe, expect, test } from "bun:test";
import { newSandboxId, type SandboxId, type WrennError } from "@wrenn/contract";
import { FakeHost, nothing, spec, until } from "./support/host.ts";

const write = (host: FakeHost, id: SandboxId, word: string) => host.guest(id, "/memory", { method: "PUT", body: word });
const read = async (host: FakeHost, id: SandboxId) => (await host.guest(id, "/memory")).text();
const fork = (host: FakeHost, snapshot: string) => host.sandboxes.create(newSandboxId(), 1, spec({ snapshot }));

describe("checkpoint, fork and roll back", () => {
  test("the source runs on; children start where it was, each with an identity of its own", async () => {
    await using host = await FakeHost.start();
    const { id, token } = await host.create();
    await write(host, id, "before");
    const point = await host.sandboxes.checkpoint(id);
    await write(host, id, "after");
    const [a, b] = await Promise.all([fork(host, point.id), fork(host, point.id)]);
    expect([await read(host, id), await read(host, a.id), await read(host, b.id)]).toEqual([
      "after",
      "before",
      "before",
    ]);
    expect(new Set([token, a.token, b.token]).size).toBe(3);
    expect(a.origin).toBe(point.id);
  });

  test("children that were announced start while the checkpoint is taken, and are as any other", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await write(host, id, "before");
    const effects: string[] = [];
    host.world.before = (effect) => void effects.push(effect);
    const point = await host.sandboxes.checkpoint(id, false, 1);
    const [a, b] = [await fork(host, point.id), await fork(host, point.id)];
    expect(effects.filter((effect) => effect.startsWith("vmm."))).toEqual(["vmm.restoreFrom", "vmm.restore"]);
    expect([await read(host, a.id), await read(host, b.id)]).toEqual(["before", "before"]);
    expect(new Set([a.token, b.token]).size).toBe(2);
    for (const [i, child] of [a, b].entries()) {
      await host.sandboxes.pause(child.id);
      await host.sandboxes.resume(child.id, i + 2);
      expect(await read(host, child.id)).toBe("before");
    }
    await host.sandboxes.deleteSnapshot(point.id);
    for (const sandbox of [id, a.id, b.id]) await host.sandboxes.destroy(sandbox);
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("a child of another network policy does not get a machine that was begun for its source's", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    const point = await host.sandboxes.checkpoint(id, false, 1);
    const effects: string[] = [];
    host.world.before = (effect) => void effects.push(effect);
    await host.sandboxes.create(newSandboxId(), 1, spec({ snapshot: point.id, isolated: true }));
    expect(effects).toContain("vmm.restore");
  });

  test("roll back puts a running and a paused sandbox to where they were", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await write(host, id, "good");
    const point = await host.sandboxes.checkpoint(id);
    for (const [i, from] of (["running", "paused"] as const).entries()) {
      await write(host, id, "bad");
      if (from === "paused") await host.sandboxes.pause(id);
      expect((await host.sandboxes.rollback(id, i + 2, point.id)).state).toBe("running");
      expect(await read(host, id)).toBe("good");
      expect(host.world.machines.size).toBe(1);
    }
  });

  test("a roll back that fails changes nothing", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    const point = await host.sandboxes.checkpoint(id);
    await write(host, id, "present");
    host.world.acknowledges = false;
    expect(((await host.sandboxes.rollback(id, 2, point.id).catch((e) => e)) as WrennError).code).toBe("agent_error");
    host.world.acknowledges = true;
    expect(await read(host, id)).toBe("present");
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 3);
    expect(await read(host, id)).toBe("present");
  });

  test("a checkpoint of a paused sandbox is the same point, and outlives it", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await write(host, id, "asleep");
    await host.sandboxes.pause(id);
    const point = await host.sandboxes.checkpoint(id);
    await host.sandboxes.destroy(id);
    const child = await fork(host, point.id);
    expect(await read(host, child.id)).toBe("asleep");
  });

  test("the line of descent is kept: each checkpoint knows the one before it", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    const first = await host.sandboxes.checkpoint(id);
    const second = await host.sandboxes.checkpoint(id);
    const child = await fork(host, first.id);
    const third = await host.sandboxes.checkpoint(child.id);
    expect([first.parent, second.parent, third.parent]).toEqual([undefined, first.id, first.id]);
    await host.sandboxes.pause(child.id);
    const fourth = await host.sandboxes.checkpoint(child.id);
    await host.sandboxes.deleteSnapshot(first.id);
    await host.sandboxes.deleteSnapshot(fourth.id);
    const parents = host.sandboxes.journal.snapshots.all().map((row) => [row.id, row.parent]);
    expect(Object.fromEntries(parents)).toMatchObject({ [second.id]: undefined, [third.id]: undefined });
    expect([fourth.parent, host.sandboxes.find(child.id).record.origin]).toEqual([third.id, third.id]);
  });

  test("deleting a checkpoint keeps what its children need, and the last one out takes the rest along", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    const point = await host.sandboxes.checkpoint(id);
    const child = await fork(host, point.id);
    await host.sandboxes.deleteSnapshot(point.id);
    await host.sandboxes.deleteSnapshot(point.id);
    await host.sandboxes.pause(child.id);
    await host.sandboxes.resume(child.id, 2); // reads its layers down to the template
    expect(((await fork(host, point.id).catch((e) => e)) as WrennError).code).toBe("not_found");
    for (const sandbox of [id, child.id]) await host.sandboxes.destroy(sandbox);
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("a pause of the disk gives memory up: the sandbox boots, and keeps its memory again from then on", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await write(host, id, "lost");
    expect(await host.sandboxes.pause(id, "", true)).toMatchObject({ state: "paused", isDiskOnly: true });
    const effects: string[] = [];
    host.world.before = (effect) => void effects.push(effect);
    await host.sandboxes.resume(id, 2);
    expect(effects.filter((effect) => effect.startsWith("vmm."))).toEqual(["vmm.bootOver"]);
    expect(await read(host, id)).toBe("");
    await write(host, id, "kept");
    expect(await host.sandboxes.pause(id)).toMatchObject({ isDiskOnly: false });
    await host.sandboxes.resume(id, 3);
    expect(await read(host, id)).toBe("kept");
    await host.sandboxes.destroy(id);
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("memory that was kept can be given up by the resume: what the guest held back is written first", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await write(host, id, "lost");
    await host.sandboxes.pause(id);
    const effects: string[] = [];
    host.world.before = (effect) => void effects.push(effect);
    await host.sandboxes.resume(id, 2, { diskOnly: true });
    expect(effects.filter((effect) => effect.startsWith("vmm."))).toEqual(["vmm.restore", "vmm.bootOver"]);
    expect(await read(host, id)).toBe("");
    expect(host.world.machines.size).toBe(1);
    await host.sandboxes.destroy(id);
    expect(await host.leftovers()).toEqual(nothing);
  });

  test("a checkpoint of the disk, of a running or paused sandbox, starts children that boot", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await write(host, id, "memory");
    const running = await host.sandboxes.checkpoint(id, true);
    expect(await read(host, id)).toBe("memory");
    await host.sandboxes.pause(id, "", true);
    const paused = await host.sandboxes.checkpoint(id);
    for (const point of [running, paused]) {
      expect(point).toMatchObject({ isDiskOnly: true, memoryBytes: 0 });
      expect(await read(host, (await fork(host, point.id)).id)).toBe("");
    }
    await host.sandboxes.rollback(id, 2, running.id);
    expect(await read(host, id)).toBe("");
  });

  test("what another VMM saved can be booted here from its disk", async () => {
    await using host = await FakeHost.start();
    const { id, templateKey } = await host.create();
    await host.sandboxes.pause(id, "", true);
    const file = `${host.dir}/templates/${templateKey}/template.json`;
    await Bun.write(file, (await Bun.file(file).text()).replace('"fingerprint":"fake"', '"fingerprint":"older"'));
    expect((await host.sandboxes.resume(id, 2)).state).toBe("running");
  });

  test("an unknown snapshot is not found and leaves nothing", async () => {
    await using host = await FakeHost.start();
    expect(((await fork(host, "none").catch((e) => e)) as WrennError).code).toBe("not_found");
    expect(await host.leftovers()).toEqual(nothing);
  });
});

describe("the pool", () => {
  test("after the first create a machine waits, and the next create claims it", async () => {
    await using host = await FakeHost.start(1);
    await host.create();
    await Bun.sleep(350);
    await host.pool.settled();
    const waiting = [...host.world.machines.keys()].at(-1)!;
    expect(host.world.machines.get(waiting)!.isStopped).toBe(true);
    const { id } = await host.create();
    expect(host.sandboxes.find(id).machine.vm.pid).toBe(waiting);
    await write(host, id, "mine");
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 2);
    expect(await read(host, id)).toBe("mine");
  });

  test("a waiting machine has rehearsed under a token that only its claim knows, and as nobody", async () => {
    await using host = await FakeHost.start(1);
    await host.create();
    await until("a machine waits", () => host.pool.rested === 1);
    const [pid, machine] = [...host.world.machines].at(-1)!;
    const rehearsed = machine.memory.init!;
    expect(rehearsed).toMatchObject({ rehearsal: true, sandboxId: "0".repeat(25) });
    expect(rehearsed.accessToken!.length).toBeGreaterThan(20);
    const { id, token } = await host.create();
    expect(host.sandboxes.find(id).machine.vm.pid).toBe(pid);
    expect(machine.presented).toBe(rehearsed.accessToken);
    expect(machine.memory.init).toMatchObject({ accessToken: token, sandboxId: id });
    expect(machine.memory.init!.rehearsal).toBeUndefined();
  });

  test("a claim takes a machine that still rehearses, which stops at that", async () => {
    await using host = await FakeHost.start(1);
    await host.create();
    const [reached, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let rehearsals = 0;
    host.world.before = async (effect) => {
      if (effect !== "guest.init") return;
      rehearsals++;
      reached.resolve();
      await goOn.promise;
    };
    await reached.promise;
    expect([host.pool.waiting, host.pool.rested]).toEqual([1, 0]);
    const pid = [...host.world.machines.keys()].at(-1)!;
    const claim = host.create();
    await until("the claim waits", () => host.pool.waiting === 0);
    goOn.resolve();
    const { id } = await claim;
    expect(host.sandboxes.find(id).machine.vm.pid).toBe(pid);
    expect(rehearsals).toBe(2); // the one under way, and the sandbox's own
  });

  test("a machine that fails at its rehearsal is gone, and the claim that took it starts another", async () => {
    await using host = await FakeHost.start(1);
    await host.create();
    const [reached, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let hasFailed = false;
    host.world.before = async (effect) => {
      if (effect !== "guest.init" || hasFailed) return;
      hasFailed = true;
      reached.resolve();
      await goOn.promise;
      throw new Error("scripted failure");
    };
    await reached.promise;
    const pid = [...host.world.machines.keys()].at(-1)!;
    const claim = host.create();
    await until("the claim waits", () => host.pool.waiting === 0);
    goOn.resolve();
    const { id } = await claim;
    expect(host.sandboxes.find(id).machine.vm.pid).not.toBe(pid);
    expect(host.world.machines.has(pid)).toBe(false);
  });

  test("a burst larger than the pool is served all the same", async () => {
    await using host = await FakeHost.start(2);
    await host.create();
    await Bun.sleep(350);
    await host.pool.settled();
    const all = await Promise.all(Array.from({ length: 8 }, () => host.create()));
    expect(new Set(all.map((record) => host.sandboxes.find(record.id).machine.vm.pid)).size).toBe(8);
  });

  test("a waiting machine that dies is not handed out", async () => {
    await using host = await FakeHost.start(1);
    await host.create();
    await Bun.sleep(350);
    await host.pool.settled();
    await host.world.kill([...host.world.machines.keys()].at(-1)!);
    await Bun.sleep(5);
    const { id } = await host.create();
    expect((await host.guest(id, "/health")).ok).toBe(true);
  });

  test("an agent that was killed leaves no waiting machine to the next one", async () => {
    await using host = await FakeHost.start(1);
    const { id } = await host.create();
    await Bun.sleep(350);
    await host.pool.settled();
    await host.restart();
    expect(await host.leftovers()).toMatchObject({ machines: 1, homes: 1, layers: 1 });
    await host.sandboxes.destroy(id);
    expect(await host.leftovers()).toEqual(nothing);
  });
});
