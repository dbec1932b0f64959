import { describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { newSandboxId, type SandboxId } from "@wrenn/contract";
import { FakeHost, nothing, spec, until } from "./support/host.ts";

/** Each recipe, from a prepared sandbox. The steps to fail are not listed here: a first run records them. */
const recipes = {
  create: { prepare: async () => undefined, run: (host: FakeHost) => host.create() },
  pause: {
    prepare: async (host: FakeHost) => (await host.create()).id,
    run: (host: FakeHost, id?: SandboxId) => host.sandboxes.pause(id!),
  },
  resume: { prepare: paused, run: (host: FakeHost, id?: SandboxId) => host.sandboxes.resume(id!, 2) },
  "pause of the disk": {
    prepare: async (host: FakeHost) => (await host.create()).id,
    run: (host: FakeHost, id?: SandboxId) => host.sandboxes.pause(id!, "", true),
  },
  "resume of the disk": {
    prepare: paused,
    run: (host: FakeHost, id?: SandboxId) => host.sandboxes.resume(id!, 2, { diskOnly: true }),
  },
  checkpoint: {
    prepare: async (host: FakeHost) => (await host.create()).id,
    run: (host: FakeHost, id?: SandboxId) => host.sandboxes.checkpoint(id!),
  },
  rollback: {
    prepare: checkpointed,
    run: (host: FakeHost, id?: SandboxId) =>
      host.sandboxes.rollback(id!, 2, host.sandboxes.journal.snapshots.all()[0]!.id),
  },
} as const;

/** What the agent's next start makes of each recipe that was cut short. */
const healed = {
  create: undefined,
  pause: "running",
  resume: "paused",
  "pause of the disk": "running",
  "resume of the disk": "paused",
  checkpoint: "running",
  rollback: "paused",
} as const;

async function checkpointed(host: FakeHost): Promise<SandboxId> {
  const { id } = await host.create();
  await host.guest(id, "/memory", { method: "PUT", body: "kept" });
  await host.sandboxes.checkpoint(id);
  return id;
}

async function paused(host: FakeHost): Promise<SandboxId> {
  const { id } = await host.create();
  await host.guest(id, "/memory", { method: "PUT", body: "kept" });
  await host.sandboxes.pause(id);
  return id;
}

/** The effects a recipe has on the machine, in order, as it runs. */
async function effectsOf(name: keyof typeof recipes): Promise<string[]> {
  await using host = await FakeHost.start();
  await host.create(); // freezes the template
  const id = await recipes[name].prepare(host);
  const effects: string[] = [];
  host.world.before = (effect) => void effects.push(effect);
  await recipes[name].run(host, id);
  return effects;
}

async function hostBefore(name: keyof typeof recipes) {
  const host = await FakeHost.start();
  const warm = await host.create();
  await host.sandboxes.destroy(warm.id);
  return { host, id: await recipes[name].prepare(host) };
}

for (const name of Object.keys(recipes) as (keyof typeof recipes)[]) {
  const effects = await effectsOf(name);

  describe(`${name}, failing`, () => {
    for (const [at, effect] of effects.entries())
      test(`at step ${at + 1} of ${effects.length}, ${effect}: nothing is left, and the next try works`, async () => {
        const { host, id } = await hostBefore(name);
        await using _ = host;
        const [before, states] = [await host.leftovers(), host.sandboxes.list().map((record) => record.state)];
        let step = 0;
        host.world.before = () => {
          if (step++ === at) throw new Error("scripted failure");
        };
        const failed = await Promise.resolve(recipes[name].run(host, id)).then(
          () => false,
          () => true,
        );
        host.world.before = () => {};
        expect(failed).toBe(true);
        // A sandbox that went on to its next layer stands on it, whatever became of the checkpoint.
        const { layers, rows, ...rest } = before;
        expect(await host.leftovers()).toMatchObject(name === "checkpoint" ? rest : { layers, rows, ...rest });
        expect(host.sandboxes.list().map((record) => record.state)).toEqual(states);
        await recipes[name].run(host, id);
        expect(host.sandboxes.list()[0]!.state).toBe(name.startsWith("pause") ? "paused" : "running");
      });
  });

  describe(`${name}, the agent killed`, () => {
    for (const [at, effect] of effects.entries())
      test(`at step ${at + 1} of ${effects.length}, ${effect}: the next start heals`, async () => {
        const { host, id } = await hostBefore(name);
        await using _ = host;
        let step = 0;
        const reached = Promise.withResolvers<void>();
        host.world.before = () => {
          if (step++ !== at) return;
          reached.resolve();
          return new Promise<void>(() => {}); // the agent never gets further
        };
        void Promise.resolve(recipes[name].run(host, id)).catch(() => {});
        await reached.promise;
        host.world.before = () => {};
        await host.restart();
        const state = healed[name];
        expect(host.sandboxes.list()[0]?.state).toBe(state!);
        expect((await host.leftovers()).machines).toBe(state === "running" ? 1 : 0);
        if (state === "paused") {
          await host.sandboxes.resume(id!, 3);
          expect(await (await host.guest(id!, "/memory")).text()).toBe("kept");
        }
        for (const { id } of host.sandboxes.journal.snapshots.all()) await host.sandboxes.deleteSnapshot(id);
        for (const { id } of host.sandboxes.list()) await host.sandboxes.destroy(id);
        expect(await host.leftovers()).toEqual(nothing);
      });
  });
}

/** A checkpoint whose child is begun with it, then the child, both of the agent that runs now. */
async function fork({ sandboxes }: FakeHost, id: SandboxId): Promise<void> {
  const { id: snapshot } = await sandboxes.checkpoint(id, false, 1);
  await sandboxes.create(newSandboxId(), 1, spec({ snapshot }));
}

/** The effects of a fork, or of its checkpoint alone, in order. */
async function forkEffects(children: 0 | 1): Promise<string[]> {
  const { host, id } = await hostBefore("checkpoint");
  await using _ = host;
  const effects: string[] = [];
  host.world.before = (effect) => void effects.push(effect);
  await (children ? fork(host, id!) : host.sandboxes.checkpoint(id!));
  return effects;
}

async function removeAll(host: FakeHost): Promise<void> {
  for (const { id } of host.sandboxes.journal.snapshots.all()) await host.sandboxes.deleteSnapshot(id);
  for (const { id } of host.sandboxes.list()) await host.sandboxes.destroy(id);
  expect(await host.leftovers()).toEqual(nothing);
}

const effectsOfFork = await forkEffects(1);

/** What is done for a child until it waits: it goes on beside the checkpoint, from when that has left its layer. */
const begun = ["disk.create", "net.attach", "vmm.restoreFrom"];

describe("fork", () => {
  test("a child is begun by what is enumerated here", async () => {
    const handedOver = ["vm.cont", "guest.init"];
    const all = [...(await forkEffects(0)), ...begun, ...handedOver];
    expect(effectsOfFork.toSorted()).toEqual(all.toSorted());
  });

  for (const [at, effect] of effectsOfFork.entries())
    test(`failing at step ${at + 1} of ${effectsOfFork.length}, ${effect}: the source runs on, nothing is left, and the next try works`, async () => {
      const { host, id } = await hostBefore("checkpoint");
      await using _ = host;
      let step = 0;
      host.world.before = () => {
        if (step++ === at) throw new Error("scripted failure");
      };
      await fork(host, id!).catch(() => {}); // a child that is not begun ahead is started afterwards
      host.world.before = () => {};
      expect(new Set(host.sandboxes.list().map((record) => record.state))).toEqual(new Set(["running"]));
      expect(host.world.machines.size).toBe(host.sandboxes.list().length);
      await fork(host, id!);
      await removeAll(host);
    });

  for (const last of begun)
    test(`the agent killed at ${last} for a child: the next start heals`, async () => {
      const { host, id } = await hostBefore("checkpoint");
      await using _ = host;
      const blocked = new Set<string>();
      let hasLeft = false;
      host.world.before = (effect) => {
        hasLeft ||= effect === "vm.switchDisk";
        if (!hasLeft || (effect !== last && effect !== "vm.capture")) return;
        blocked.add(effect);
        return new Promise<void>(() => {});
      };
      void fork(host, id!).catch(() => {});
      await until("child and checkpoint stand still", () => blocked.size === 2);
      host.world.before = () => {};
      await host.restart();
      expect(host.sandboxes.list()).toMatchObject([{ id: id!, state: "running" }]);
      expect(await host.leftovers()).toMatchObject({ machines: 1, homes: 1, snapshots: 0 });
      await fork(host, id!);
      await removeAll(host);
    });

  test("the agent killed while a child waits that nobody claimed: the next start heals", async () => {
    const { host, id } = await hostBefore("checkpoint");
    await using _ = host;
    const { id: snapshot } = await host.sandboxes.checkpoint(id!, false, 1);
    await until("the child waits", () => host.world.machines.size === 2);
    await host.restart();
    expect(await host.leftovers()).toMatchObject({ machines: 1, homes: 1, snapshots: 1 });
    await host.create({ snapshot });
    await removeAll(host);
  });
});

describe("the agent killed and started again", () => {
  test("running VMs are adopted and go on, paused ones resume with their memory", async () => {
    await using host = await FakeHost.start();
    const running = await host.create();
    await host.guest(running.id, "/memory", { method: "PUT", body: "alive" });
    const sleeping = await paused(host);
    await host.restart();
    expect(await (await host.guest(running.id, "/memory")).text()).toBe("alive");
    await host.sandboxes.resume(sleeping, 2);
    expect(await (await host.guest(sleeping, "/memory")).text()).toBe("kept");
    await host.sandboxes.pause(running.id);
    expect(host.sandboxes.find(running.id).record.state).toBe("paused");
  });

  test("a VM that ended meanwhile leaves its sandbox in error, with its files", async () => {
    await using host = await FakeHost.start();
    const { id } = await host.create();
    await host.world.kill([...host.world.machines.keys()][0]!);
    await host.restart();
    expect(host.sandboxes.find(id).record.state).toBe("error");
    expect((await host.leftovers()).layers).toBe(1);
  });

  test("templates of a replaced image go, unless a sandbox stands on them", async () => {
    await using host = await FakeHost.start();
    const { id, templateKey } = await host.create();
    const other = (await host.create({ memoryMib: 256 })).id;
    await host.sandboxes.destroy(other);
    const image = `${host.dir}/images/minimal/image.json`;
    await Bun.write(image, (await Bun.file(image).text()).replace("sha256:minimal", "sha256:newer"));
    await host.restart();
    expect(await readdir(`${host.dir}/templates`)).toEqual([templateKey]);
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 2);
  });

  test("what another VMM saved is refused by name, and stays as it is", async () => {
    await using host = await FakeHost.start();
    const { id, templateKey } = await host.create();
    await host.sandboxes.pause(id);
    const file = `${host.dir}/templates/${templateKey}/template.json`;
    const ours = await Bun.file(file).text();
    await Bun.write(file, ours.replace('"fingerprint":"fake"', '"fingerprint":"older"'));
    const refused = await host.sandboxes.resume(id, 2).catch((thrown) => thrown);
    expect(refused).toMatchObject({ code: "conflict", details: { saved: "older", here: "fake" } });
    expect(host.sandboxes.find(id).record.state).toBe("paused");
    await Bun.write(file, ours);
    expect((await host.sandboxes.resume(id, 3)).state).toBe("running");
  });

  test("versions go on rising, so that a watcher can tell old news from new", async () => {
    await using host = await FakeHost.start();
    const { id, version } = await host.create();
    await host.restart();
    expect((await host.sandboxes.pause(id)).version).toBeGreaterThan(version);
  });
});

describe("a VMM that answers nothing any more", () => {
  for (const name of ["pause", "checkpoint"] as const)
    test(`while its sandbox is told to ${name}: the sandbox is in error with its files, and the VMM is gone`, async () => {
      const { host, id } = await hostBefore(name);
      await using _ = host;
      host.world.before = (effect) => {
        if (effect.startsWith("vm.")) throw new Error("no answer");
      };
      await expect(Promise.resolve(recipes[name].run(host, id))).rejects.toThrow();
      host.world.before = () => {};
      expect(host.sandboxes.list()).toMatchObject([{ state: "error", reason: "its VMM did not answer any more" }]);
      expect(host.world.machines.size).toBe(0);
      await host.sandboxes.destroy(id!);
      expect(await host.leftovers()).toEqual(nothing);
    });
});
