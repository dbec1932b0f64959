import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { SandboxId } from "@wrenn/contract";
import { firecracker, firecrackerDrivers, jailer, networks, qemuDrivers } from "../support/bench.ts";
import { left, leftInTheEnd } from "../support/left.ts";
import { RealHost } from "../support/real-host.ts";

let host: RealHost;

beforeAll(async () => {
  host = await RealHost.start(async () => {
    const nets = await networks("faults", 0);
    return firecracker ? firecrackerDrivers(nets, { jailed: !!jailer }) : qemuDrivers(nets);
  });
  const { id } = await host.create(); // freezes the template
  await host.sandboxes.destroy(id);
}, 300_000);

afterAll(async () => {
  await host[Symbol.asyncDispose]();
  expect(await leftInTheEnd()).toEqual({ devices: [], loops: [], networks: [], slots: [], vmms: [], groups: [] });
});

const none = async () => undefined;
const running = async () => (await host.create()).id;
async function paused(): Promise<SandboxId> {
  const id = await running();
  await host.sandboxes.pause(id);
  return id;
}

/** Each recipe from a prepared sandbox, and the state in which it is found when the recipe fails or the agent is killed. */
const recipes = {
  create: { prepare: none, run: () => host.create(), after: undefined },
  pause: { prepare: running, run: (id?: SandboxId) => host.sandboxes.pause(id!), after: "running" },
  resume: { prepare: paused, run: (id?: SandboxId) => host.sandboxes.resume(id!, 2), after: "paused" },
  checkpoint: { prepare: running, run: (id?: SandboxId) => host.sandboxes.checkpoint(id!), after: "running" },
} as const;

/** What exists on the host, files included; the pool of networks is empty in this file. */
async function everything() {
  await (host.drivers.nets as { settled?(): Promise<void> }).settled?.();
  const { vmms, devices, networks, slots, groups } = left();
  return {
    ...(await host.leftovers()),
    machines: [vmms.length, devices.length, networks.length, slots.length, groups.length],
  };
}

async function clear(): Promise<void> {
  for (const { id } of host.sandboxes.journal.snapshots.all()) await host.sandboxes.deleteSnapshot(id);
  for (const { id } of host.sandboxes.list()) await host.sandboxes.destroy(id);
}

/** The effects that a recipe has, in order: recorded from a run, not listed. */
async function effectsOf(name: keyof typeof recipes): Promise<string[]> {
  const id = await recipes[name].prepare();
  const effects: string[] = [];
  host.before = (effect) => void effects.push(effect);
  await recipes[name].run(id);
  host.before = () => {};
  await clear();
  return effects;
}

/**
 * Each step takes seconds here, so every recipe is tried in one way by default and in both with LAB_FULL=1; the same runs
 * whole on fake machines (packages/host/test/faults.test.ts).
 */
const isFull = process.env.LAB_FULL === "1";
const inFull = (isDefault: boolean) => (isDefault || isFull ? test : test.skip);

for (const name of ["create", "pause", "resume", "checkpoint"] as const)
  describe(`${name} with real drivers`, () => {
    inFull(name === "create" || name === "checkpoint")(
      "failing at any step leaves what was before, and the next try works (the other recipes with LAB_FULL=1)",
      async () => {
        const effects = await effectsOf(name);
        const id = await recipes[name].prepare();
        const before = await everything();
        for (const at of effects.keys()) {
          let step = 0;
          host.before = () => {
            if (step++ === at) throw new Error("scripted failure");
          };
          await expect(Promise.resolve(recipes[name].run(id)), effects[at]!).rejects.toThrow();
          host.before = () => {};
          const { layers: _, rows: __, machines, ...files } = await everything();
          const { layers: ___, rows: ____, machines: machinesBefore, ...filesBefore } = before;
          expect([effects[at], files]).toEqual([effects[at], filesBefore]);
          // A checkpoint that failed late has moved its sandbox on to the next layer, which is one device more.
          if (name !== "checkpoint") expect([effects[at], machines]).toEqual([effects[at], machinesBefore]);
          expect(host.sandboxes.list().map((record) => record.state)).toEqual(
            recipes[name].after ? [recipes[name].after] : [],
          );
        }
        await recipes[name].run(id);
        await clear();
      },
    );

    inFull(name === "pause" || name === "resume")(
      "the agent killed at any step: its next start heals, and nothing is left in the end (the other recipes with LAB_FULL=1)",
      async () => {
        const effects = await effectsOf(name);
        for (const at of effects.keys()) {
          const id = await recipes[name].prepare();
          let step = 0;
          const reached = Promise.withResolvers<void>();
          host.before = () => {
            if (step++ !== at) return;
            reached.resolve();
            return new Promise<void>(() => {}); // the agent never gets further
          };
          void Promise.resolve(recipes[name].run(id)).catch(() => {});
          await reached.promise;
          host.before = () => {};
          await host.restart();
          expect([effects[at], host.sandboxes.list()[0]?.state]).toEqual([effects[at], recipes[name].after]);
          await clear();
          const { machines, ...files } = await everything();
          expect([effects[at], machines, files]).toEqual([
            effects[at],
            [0, 0, 0, 0, 0],
            { rows: 0, homes: 0, snapshots: 0, layers: 0 },
          ]);
        }
      },
    );
  });

/** How many creates and kills in a row; LAB_CYCLES=200 for the long run. */
const cycles = Number(process.env.LAB_CYCLES ?? 10);

test(`${cycles} sandboxes created and killed leave nothing, also no descriptor of the agent`, async () => {
  const open = () =>
    Bun.spawnSync(["ls", `/proc/${process.pid}/fd`])
      .stdout.toString()
      .split("\n").length;
  await host.sandboxes.destroy((await host.create()).id);
  const before = open();
  for (let i = 0; i < cycles; i++) await host.sandboxes.destroy((await host.create()).id);
  expect((await everything()).machines).toEqual([0, 0, 0, 0, 0]);
  expect(open()).toBeLessThanOrEqual(before + 2);
}, 1_200_000);
