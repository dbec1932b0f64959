import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { left, leftInTheEnd } from "../support/left.ts";
import { RealHost } from "../support/real-host.ts";
import { driversFor, type RecipeName, recipes } from "../support/recipes.ts";

let host: RealHost;

beforeAll(async () => {
  host = await RealHost.start(() => driversFor("faults"));
  const { id } = await host.create(); // freezes the template
  await host.sandboxes.destroy(id);
}, 300_000);

afterAll(async () => {
  await host[Symbol.asyncDispose]();
  expect(await leftInTheEnd()).toEqual({ devices: [], loops: [], networks: [], slots: [], vmms: [], groups: [] });
});

/** What exists on the host, files included; the pool of networks is empty in this file. */
async function everything() {
  await (host.drivers.nets as { settled?(): Promise<void> }).settled?.();
  const { vmms, devices, networks, slots, groups } = left();
  return {
    ...(await host.leftovers()),
    machines: [vmms.length, devices.length, networks.length, slots.length, groups.length],
  };
}

const nothing = { rows: 0, homes: 0, snapshots: 0, layers: 0 };

async function clear(): Promise<void> {
  for (const { id } of host.sandboxes.journal.snapshots.all()) await host.sandboxes.deleteSnapshot(id);
  for (const { id } of host.sandboxes.list()) await host.sandboxes.destroy(id);
}

/** The effects that a recipe has, in order: recorded from a run, not listed. */
async function effectsOf(name: RecipeName): Promise<string[]> {
  const id = await recipes[name].prepare(host);
  const effects: string[] = [];
  host.before = (effect) => void effects.push(effect);
  await recipes[name].run(host, id);
  host.before = () => {};
  await clear();
  return effects;
}

/**
 * Each step takes seconds here, so one recipe is tried in each way by default and all with LAB_FULL=1; the same runs whole
 * on fake machines (packages/host/test/faults.test.ts).
 */
const isFull = process.env.LAB_FULL === "1";
const inFull = (isDefault: boolean) => (isDefault || isFull ? test : test.skip);

for (const name of ["create", "pause", "resume", "checkpoint"] as const)
  describe(`${name} with real drivers`, () => {
    inFull(name === "resume")(
      "failing at any step leaves what was before, and the next try works (the other recipes with LAB_FULL=1)",
      async () => {
        const effects = await effectsOf(name);
        const id = await recipes[name].prepare(host);
        const before = await everything();
        for (const at of effects.keys()) {
          let step = 0;
          host.before = () => {
            if (step++ === at) throw new Error("scripted failure");
          };
          await expect(Promise.resolve(recipes[name].run(host, id)), effects[at]!).rejects.toThrow();
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
        await recipes[name].run(host, id);
        await clear();
      },
    );

    inFull(name === "pause")(
      "the agent killed at any step: its next start heals, and nothing is left in the end (the other recipes with LAB_FULL=1)",
      async () => {
        for (let step = 0; ; step++) {
          const effect = await host.killedAt("faults", name, step);
          if (!effect) break;
          expect([effect, host.sandboxes.list()[0]?.state]).toEqual([effect, recipes[name].after]);
          await clear();
          const { machines, ...files } = await everything();
          expect([effect, machines, files]).toEqual([effect, [0, 0, 0, 0, 0], nothing]);
        }
        await clear();
      },
      600_000,
    );
  });

/** How many creates and kills in a row; LAB_CYCLES=200 for the long run. */
const cycles = Number(process.env.LAB_CYCLES || 3);

/** What this process has open beside sockets, by what it is, and how many sockets. */
function open(): { files: string[]; sockets: number } {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ""; // the one that listed them
    }
  });
  const isSocket = (link: string) => link.startsWith("socket:");
  const files = links.filter((link) => link !== "" && !isSocket(link)).map((link) => link.replace(/\d{3,}/g, "N"));
  return { files: files.sort(), sockets: links.filter(isSocket).length };
}

/** So many connections does `fetch` keep: one is left of each guest that is gone, until the next ones take its place. */
const kept = 64;

test(`${cycles} sandboxes created and killed leave nothing, also no descriptor of the agent`, async () => {
  await host.sandboxes.destroy((await host.create()).id);
  await everything(); // the last network's removal is a process, with descriptors
  const before = open();
  for (let i = 0; i < cycles; i++) await host.sandboxes.destroy((await host.create()).id);
  expect((await everything()).machines).toEqual([0, 0, 0, 0, 0]);
  for (let left = 100; left > 0 && open().files.length > before.files.length; left--) await Bun.sleep(100);
  const { files, sockets } = open();
  if (files.length > before.files.length) expect(files).toEqual(before.files); // says which
  expect(sockets).toBeLessThanOrEqual(before.sockets + Math.min(cycles, kept) + 2);
  console.log(`descriptors: ${before.files.length} and ${before.sockets} sockets before, ${sockets} sockets after`);
}, 1_800_000);
