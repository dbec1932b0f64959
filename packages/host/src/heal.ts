import { mkdir, readdir, rm } from "node:fs/promises";
import type { Logger } from "pino";
import { hold } from "./egress/keep.ts";
import { adopt, type Machine } from "./machine.ts";
import { partOfLayer } from "./move/moves.ts";
import type { Kitchen } from "./recipes.ts";
import { removeSnapshot } from "./recipes.ts";
import type { Sandbox } from "./sandbox.ts";
import type { Sandboxes } from "./sandboxes.ts";

/**
 * Brings journal and world together after the agent ended at any line: VMs that still run are adopted, half-done steps
 * are undone or finished, everything else is released. Run once, before the first request.
 */
export async function heal(sandboxes: Sandboxes, log: Logger): Promise<void> {
  const { kitchen, journal } = sandboxes;
  for (const folder of ["sandboxes", "snapshots", "templates", "bases"])
    await mkdir(`${kitchen.paths.root}/${folder}`, { recursive: true, mode: 0o755 });
  await mkdir(`${kitchen.paths.root}/layers`, { recursive: true, mode: 0o711 }); // opened by name, never listed
  const found = journal.sandboxes.all().map((row) => ({ before: row.state, sandbox: sandboxes.register(row) }));
  const machines = new Map<Sandbox, Machine>();
  for (const { sandbox } of found) {
    const machine = await adoptFor(sandbox, kitchen).catch(
      (error) => void log.error({ id: sandbox.id, error }, "not adopted"),
    );
    if (machine) machines.set(sandbox, machine);
  }
  const killed = await kitchen.drivers.vmm.sweep(
    kitchen.paths.root,
    new Set([...machines.values()].map(({ vm }) => vm.pid)),
  );
  if (killed.length > 0) log.warn({ killed }, "killed VMs that nobody owned");
  for (const { before, sandbox } of found) {
    await settle(sandbox, machines.get(sandbox), sandboxes).catch((error) =>
      log.error({ id: sandbox.id, error }, "not healed"),
    );
    log.info({ id: sandbox.id, before, after: sandbox.record.state, reason: sandbox.record.reason }, "healed");
  }
  await kitchen.drivers.disks.sweep();
  await kitchen.drivers.nets.sweep();
  await kitchen.templates.heal();
  await removeLeftovers(sandboxes);
  await kitchen.templates.collect(neededTemplates(journal));
  await warnOfStrangers(sandboxes, log);
}

/** Keys of the templates that a sandbox, snapshot or waiting machine stands on. */
export function neededTemplates({ sandboxes, snapshots, layers }: Sandboxes["journal"]): Set<string> {
  const rows = [...sandboxes.all(), ...snapshots.all(), ...layers.all()];
  return new Set(rows.map((row) => row.templateKey));
}

/** The machine of a sandbox that had one in use. */
async function adoptFor({ record }: Sandbox, kitchen: Kitchen): Promise<Machine | undefined> {
  if (!record.machine || !record.layer || (record.state !== "running" && record.state !== "pausing")) return undefined;
  const template = await kitchen.templates.byKey(record.templateKey);
  return adopt(kitchen, record.machine, template, await kitchen.layers.open(record.layer));
}

/** One sandbox, by the state it was in; machines that are nobody's have been killed. */
async function settle(sandbox: Sandbox, machine: Machine | undefined, sandboxes: Sandboxes): Promise<void> {
  const { record } = sandbox;
  const interrupted = "the host agent was restarted";
  switch (record.state) {
    case "starting": // nobody was told of it yet
      sandbox.move("stop", { reason: interrupted });
      return sandboxes.finishDestroy(sandbox, undefined, interrupted);
    case "stopping":
    case "stopped":
      return sandboxes.finishDestroy(sandbox, undefined, record.reason);
    case "resuming": // layer and snapshot of before are untouched until a resume is complete
      return sandbox.move("paused", { reason: interrupted, machine: undefined, nextLayer: undefined });
    case "running":
    case "pausing":
      return machine ? keepRunning(sandbox, machine, sandboxes) : lost(sandbox, sandboxes);
    default:
      return; // paused and error hold nothing but files
  }
}

async function keepRunning(sandbox: Sandbox, machine: Machine, sandboxes: Sandboxes): Promise<void> {
  const { record } = sandbox;
  // A checkpoint may have moved the VM to its next layer without living to write it down: the VM knows.
  const { nextLayer } = record;
  const hasMoved = nextLayer && (await writesTo(machine, nextLayer, sandboxes));
  sandbox.note({ layer: hasMoved ? nextLayer : record.layer, nextLayer: undefined });
  // The rules are in force as the former agent left them; what led to its gates leads to this one's now.
  await hold(sandbox, machine, sandboxes.kitchen).catch((error) =>
    sandboxes.log.error({ id: sandbox.id, error }, "the network policy was not taken up: what needs its gate is shut"),
  );
  await machine.vm.cont(); // a pause or checkpoint that was not finished is undone
  if (record.state === "running") sandbox.phase = { at: "running", machine };
  else sandbox.move("ready", {}, machine);
  sandbox.touch();
  sandboxes.adopted(sandbox, machine);
  // Its guest waits for its files since the former agent ended.
  const { kernel } = await sandboxes.kitchen.templates.byKey(record.templateKey);
  sandboxes.kitchen.mounts.reattach(sandbox, machine, kernel);
}

async function writesTo({ vm }: Machine, layer: string, { kitchen }: Sandboxes): Promise<boolean> {
  const disk = await kitchen.layers.open(layer).catch(() => undefined); // its file may not have been made yet
  await using _ = disk;
  return !!disk && vm.writesTo(disk);
}

/** The VM is gone: a snapshot that was already whole saves a pausing sandbox, otherwise its memory is lost and the files stay. */
async function lost(sandbox: Sandbox, { journal }: Sandboxes): Promise<void> {
  const { id, run, state } = sandbox.record;
  const whole = journal.snapshots.all().find((row) => row.sandbox === id && row.run === run && row.kind === "pause");
  if (state === "pausing" && whole)
    sandbox.move("paused", { snapshot: whole.id, isDiskOnly: whole.isDiskOnly, machine: undefined });
  else sandbox.move("fail", { reason: "its VM ended while the host agent was away", machine: undefined });
}

/** Snapshots that no pause stands on any more, half-written ones, folders of machines that are gone, layers nobody needs. */
async function removeLeftovers({ kitchen, journal }: Sandboxes): Promise<void> {
  const { paths, layers } = kitchen;
  const rows = journal.sandboxes.all();
  const inUse = new Set(rows.map((row) => row.snapshot));
  for (const row of journal.snapshots.all())
    if (row.kind === "pause" && !inUse.has(row.id)) await removeSnapshot(row.id, kitchen);
  for (const name of await readdir(`${paths.root}/snapshots`))
    if (name.startsWith(".making-")) await rm(`${paths.root}/snapshots/${name}`, { recursive: true, force: true });
  const homes = new Set(rows.map((row) => row.machine?.home));
  for (const home of await readdir(`${paths.root}/sandboxes`))
    if (!homes.has(home)) await rm(paths.machine(home), { recursive: true, force: true });
  for (const home of await readdir(`${paths.root}/bases`))
    if (!homes.has(home)) await rm(paths.base(home), { recursive: true, force: true });
  await kitchen.drivers.limits?.sweep(new Set([...homes].filter((home) => home !== undefined)));
  for (const name of await readdir(`${paths.root}/layers`))
    if (name.endsWith(partOfLayer)) await rm(`${paths.root}/layers/${name}`, { force: true });
  await layers.collect();
}

/** Files without a row are somebody's data after a lost journal: named in the log, never removed. */
async function warnOfStrangers({ kitchen, journal }: Sandboxes, log: Logger): Promise<void> {
  const { paths } = kitchen;
  for (const name of await readdir(`${paths.root}/layers`))
    if (!journal.layers.get(name.replace(/\..*$/, "")))
      log.warn({ name }, "a disk layer that the journal does not know");
  for (const name of await readdir(`${paths.root}/snapshots`))
    if (!journal.snapshots.get(name)) log.warn({ name }, "a snapshot that the journal does not know");
}
