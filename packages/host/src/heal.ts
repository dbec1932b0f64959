import { mkdir, readdir, rm } from "node:fs/promises";
import type { Logger } from "pino";
import type { Nic, VmHandle } from "./drivers/ports.ts";
import { type Kitchen, vmSpec } from "./recipes.ts";
import type { SandboxRecord } from "./record.ts";
import type { Running, Sandbox } from "./sandbox.ts";
import type { Sandboxes } from "./sandboxes.ts";

/**
 * Brings journal and world together after the agent ended at any line: VMs that still run are adopted, half-done steps
 * are undone or finished, everything else is released. Run once, before the first request.
 */
export async function heal(sandboxes: Sandboxes, rows: readonly SandboxRecord[], log: Logger): Promise<void> {
  const { kitchen } = sandboxes;
  for (const folder of ["sandboxes", "snapshots", "templates"])
    await mkdir(`${kitchen.paths.root}/${folder}`, { recursive: true, mode: 0o755 });
  const keep = new Set<number>();
  for (const row of rows) {
    const before = row.state;
    const sandbox = sandboxes.register(row);
    await healOne(sandbox, sandboxes, kitchen).catch((error) => log.error({ id: row.id, error }, "not healed"));
    const running = sandbox.phase.at === "running" ? sandbox.phase.running : undefined;
    if (running) keep.add(running.vm.pid);
    log.info({ id: row.id, before, after: sandbox.record.state, reason: sandbox.record.reason }, "healed");
  }
  const killed = await kitchen.drivers.vmm.sweep(kitchen.paths.root, keep);
  if (killed.length > 0) log.warn({ killed }, "killed VMs that nobody owned");
  await kitchen.templates.heal();
  await removeUnfinishedSnapshots(kitchen.paths.root);
  await warnOfStrangers(kitchen.paths.root, rows, log);
}

/** One sandbox, by the state it was in. */
async function healOne(sandbox: Sandbox, sandboxes: Sandboxes, kitchen: Kitchen): Promise<void> {
  const { record } = sandbox;
  const { paths, drivers } = kitchen;
  const interrupted = "the host agent was restarted";
  switch (record.state) {
    case "starting": // nobody was told of it yet
    case "stopping":
    case "stopped":
      await drivers.vmm.sweep(paths.sandbox(record.id), new Set());
      if (record.state === "starting") sandbox.move("stop", { reason: interrupted });
      return sandboxes.finishDestroy(sandbox, undefined, record.reason);
    case "resuming": // the paused disk layer and snapshot are untouched until a resume is complete
      await drivers.vmm.sweep(paths.sandbox(record.id), new Set());
      await rm(paths.layer(record.id, record.layer + 1), { force: true });
      return sandbox.move("paused", { reason: interrupted, vm: undefined });
    case "running":
    case "pausing": {
      const running = await adopt(sandbox, kitchen);
      if (running) return keepRunning(sandbox, running, sandboxes);
      return lost(sandbox, kitchen);
    }
    default:
      return; // paused and error hold nothing but files
  }
}

async function keepRunning(sandbox: Sandbox, running: Running, sandboxes: Sandboxes): Promise<void> {
  if (sandbox.record.state === "running") sandbox.phase = { at: "running", running };
  else {
    await running.vm.cont(); // a pause that was not finished is undone
    sandbox.move("ready", {}, running);
  }
  sandbox.touch();
  sandboxes.adopted(sandbox, running);
}

/** The VM is gone: a snapshot that was already whole saves a pausing sandbox, otherwise its memory is lost and the files stay. */
async function lost(sandbox: Sandbox, { paths }: Kitchen): Promise<void> {
  const { record } = sandbox;
  const name = `${record.id}-${record.run}`;
  const isWhole = record.state === "pausing" && (await readdir(paths.snapshot(name)).catch(() => [])).length > 0;
  if (isWhole) sandbox.move("paused", { snapshot: name, vm: undefined });
  else sandbox.move("fail", { reason: "its VM ended while the host agent was away", vm: undefined });
}

async function adopt(sandbox: Sandbox, { drivers, paths, templates }: Kitchen): Promise<Running | undefined> {
  const { id, vm: handle, templateKey, layer } = sandbox.record;
  if (!handle) return undefined;
  const { frozen } = await templates.byKey(templateKey);
  await using undo = new AsyncDisposableStack();
  const disk = undo.use(await drivers.disks.open(paths.layer(id, layer)));
  const nic: Nic = undo.use(await drivers.nets.attach(id));
  const vm = await drivers.vmm.adopt(vmSpec(sandbox, paths, disk, nic), frozen, handle satisfies VmHandle);
  if (!vm) return undefined;
  undo.use(vm);
  return { disk, nic, vm, held: undo.move() };
}

async function removeUnfinishedSnapshots(root: string): Promise<void> {
  for (const name of await readdir(`${root}/snapshots`))
    if (name.startsWith(".making-")) await rm(`${root}/snapshots/${name}`, { recursive: true, force: true });
}

/** Folders without a row are somebody's data after a lost journal: named in the log, never removed. */
async function warnOfStrangers(root: string, rows: readonly SandboxRecord[], log: Logger): Promise<void> {
  const known = new Set<string>(rows.map((row) => row.id));
  for (const name of await readdir(`${root}/sandboxes`))
    if (!known.has(name))
      log.warn({ folder: `${root}/sandboxes/${name}` }, "a sandbox folder that the journal does not know");
}
