import { existsSync, renameSync } from "node:fs";
import { link, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { randomId, WrennError } from "@wrenn/contract";
import type { Drivers, Kernel, Vm } from "./drivers/ports.ts";
import { hold, isIsolated } from "./egress/keep.ts";
import type { Vault } from "./egress/vault.ts";
import { agentOf, type GuestAgent, type Identity } from "./guest-agent.ts";
import type { Holds } from "./holds.ts";
import type { Image } from "./images.ts";
import type { Journal } from "./journal.ts";
import type { Layers } from "./layers.ts";
import { type Machine, raise, rebase, recordOf } from "./machine.ts";
import type { Nursery } from "./nursery.ts";
import type { Paths } from "./paths.ts";
import type { Pool, Pooled } from "./pool.ts";
import type { Defaults, SandboxSpec, SnapshotRecord } from "./record.ts";
import type { Sandbox } from "./sandbox.ts";
import type { Template, Templates } from "./templates.ts";
import type { Turns } from "./turns.ts";
import type { Mounts } from "./volumes/mounts.ts";

/** What the recipes work with. */
export type Kitchen = {
  readonly drivers: Drivers;
  readonly templates: Templates;
  readonly layers: Layers;
  readonly journal: Journal;
  readonly paths: Paths;
  readonly pool: Pool;
  readonly nursery: Nursery;
  readonly holds: Holds;
  readonly vault: Vault;
  readonly mounts: Mounts;
  /** Machines that are started at once: more would only take the processors from each other. */
  readonly starts: Turns;
};

/** A guest writes what it holds back within seconds; one that is stuck must not keep its pause waiting. */
const syncTimeoutMs = 30_000;

/** Starts a new sandbox from its template, or from the snapshot its spec names. On any throw nothing is left. */
export async function create(sandbox: Sandbox, kitchen: Kitchen): Promise<Machine> {
  const { spec } = sandbox.record;
  if (spec.snapshot !== undefined) return startFrom(sandbox, kitchen, findSnapshot(kitchen, spec.snapshot));
  const template = await kitchen.templates.readySoon(spec.template, spec);
  sandbox.note({ templateKey: template.key, defaultUser: defaultsOf(spec, template.image).user });
  // A waiting machine's network is open already.
  const pooled = isIsolated(spec, kitchen.drivers.nets) ? undefined : await kitchen.pool.take(template);
  if (pooled) return claim(sandbox, kitchen, { template, pooled });
  const nextLayer = kitchen.layers.reserve(template.key, undefined);
  sandbox.note({ nextLayer });
  return start(sandbox, kitchen, { template, nextLayer });
}

/** A waiting machine becomes the sandbox's. */
async function claim(
  sandbox: Sandbox,
  kitchen: Kitchen,
  {
    template,
    saved,
    pooled: { machine, layer, token },
  }: { template: Template; saved?: string | undefined; pooled: Pooled },
): Promise<Machine> {
  sandbox.note({ nextLayer: layer });
  kitchen.layers.unpin(layer); // the row holds it now
  return handOver(sandbox, machine, kitchen, { template, saved, token });
}

/**
 * Starts a sandbox from a snapshot, on a new layer over the snapshot's: also resume, fork and roll back. With `diskOnly`
 * it boots, whatever memory was kept.
 */
export async function startFrom(
  sandbox: Sandbox,
  kitchen: Kitchen,
  from: SnapshotRecord,
  diskOnly = false,
): Promise<Machine> {
  const { templates, layers, paths } = kitchen;
  findSnapshot(kitchen, from.id); // it may have been deleted while this waited for its turn
  using _ = kitchen.holds.hold(from.id);
  const template = await (from.isDiskOnly ? templates.byKey(from.templateKey) : templates.restorable(from.templateKey));
  const defaultUser = sandbox.record.spec.defaults?.user ?? from.defaultUser;
  sandbox.note({ templateKey: template.key, defaultUser });
  const isSynced = from.isDiskOnly || !diskOnly;
  const isolated = isIsolated(sandbox.record.spec, kitchen.drivers.nets);
  const pooled = from.isDiskOnly || diskOnly ? undefined : await kitchen.nursery.take(from.id, isolated);
  if (pooled) return claim(sandbox, kitchen, { template, saved: paths.snapshot(from.id), pooled });
  const below = isSynced ? from.layer : await syncedLayer(sandbox, kitchen, { template, from });
  const nextLayer = layers.reserve(template.key, below);
  sandbox.note({ nextLayer });
  if (from.isDiskOnly || diskOnly)
    return start(sandbox, kitchen, { template, nextLayer, kernel: await templates.kernel() });
  return start(sandbox, kitchen, { template, nextLayer, saved: paths.snapshot(from.id), token: from.token });
}

/**
 * A layer over that of a snapshot with memory, with what its guest had not written to its disk yet: it runs for as long
 * as that takes, cut off from everything outside. Where it cannot, its disk is as after a power cut.
 */
async function syncedLayer(
  sandbox: Sandbox,
  kitchen: Kitchen,
  { template, from }: { template: Template; from: SnapshotRecord },
): Promise<string> {
  const layer = kitchen.layers.reserve(template.key, from.layer);
  sandbox.note({ nextLayer: layer });
  const origin = { template, saved: kitchen.paths.snapshot(from.id), isolated: true };
  const machine = await raise(kitchen, origin, () => kitchen.layers.create(layer));
  await using _ = machine.held;
  sandbox.note({ machine: recordOf(machine) });
  await machine.vm.cont();
  await syncFiles(machine, from.token);
  await machine.vm.stop();
  return layer;
}

/** Has the guest write to its disk what it holds in memory. One that does not answer cannot, and keeps nobody waiting. */
async function syncFiles(machine: Machine, token: string): Promise<void> {
  await agentOf(machine)
    .sync(token, syncTimeoutMs)
    .catch(() => {});
}

/** `kernel` boots; `saved` and its `token` restore; without any of them it is the template's. */
type Start = {
  template: Template;
  nextLayer: string;
  saved?: string | undefined;
  token?: string | undefined;
  kernel?: Kernel | undefined;
};

async function start(sandbox: Sandbox, kitchen: Kitchen, { nextLayer, ...from }: Start): Promise<Machine> {
  const { template, saved, kernel } = from;
  const isolated = isIsolated(sandbox.record.spec, kitchen.drivers.nets);
  const machine = await raise(kitchen, { template, saved, kernel, isolated }, () => kitchen.layers.create(nextLayer));
  return handOver(sandbox, machine, kitchen, from);
}

/**
 * Writes a stopped machine down, lets it run and gives it its identity, once it has booted if it must. On any throw
 * the machine is gone.
 */
async function handOver(
  sandbox: Sandbox,
  machine: Machine,
  kitchen: Kitchen,
  { template, token, saved, kernel }: Omit<Start, "nextLayer">,
): Promise<Machine> {
  await using undo = new AsyncDisposableStack();
  undo.use(machine.held);
  sandbox.note({ machine: recordOf(machine) });
  const { diskMib, extraDiskMib } = sandbox.record.spec;
  // A layer over a grown one is as large: only the first needs it.
  const isGrown = !!extraDiskMib && saved === undefined && kernel === undefined;
  if (isGrown) await growDisk(machine.vm, diskMib);
  const caBundle = await hold(sandbox, machine, kitchen); // before the guest runs
  await machine.vm.cont();
  if (kernel) await agentOf(machine).ready(kitchen.templates.config.readyTimeoutMs, machine.vm.exited);
  const more = { present: token, caBundle, ...(isGrown && { diskBytes: diskMib * 2 ** 20 }) };
  await Promise.all([
    identify(sandbox, template, agentOf(machine), more),
    machine.vm.describe?.({ sandbox_id: sandbox.id, template_id: template.image.name }),
  ]);
  await kitchen.mounts.attach(sandbox, machine, kernel?.version ?? template.kernel);
  undo.move();
  return machine;
}

async function growDisk(vm: Vm, mib: number): Promise<void> {
  if (!vm.growDisk)
    throw new WrennError("unimplemented", "this host's machines cannot have a larger disk than their template", {
      remedy: "Ask for the template's size, or build a template with a larger disk.",
    });
  await vm.growDisk(mib);
}

/** What is taken of a running machine, and how many sandboxes are about to be created from it. */
export type Wanted = {
  readonly kind: SnapshotRecord["kind"];
  readonly diskOnly: boolean;
  readonly children?: number | undefined;
};

/**
 * Takes memory, devices and disk of one instant, or the disk alone. The source of a `checkpoint` runs on, on a new disk
 * layer, as soon as they are taken; that of a `pause` stays stopped. On any throw the VM runs on as before.
 */
export async function snapshot(
  sandbox: Sandbox,
  machine: Machine,
  kitchen: Kitchen,
  { kind, diskOnly, children = 0 }: Wanted,
): Promise<SnapshotRecord> {
  const { layers, paths } = kitchen;
  const { vm, home } = machine;
  if (diskOnly) await syncFiles(machine, sandbox.record.token);
  const id = randomId();
  await using undo = new AsyncDisposableStack();
  const unfinished = await unfinishedFolder(id, paths, undo);
  const layer = sandbox.record.layer!;
  if (kind === "checkpoint") sandbox.note({ nextLayer: layers.reserve(sandbox.record.templateKey, layer) });
  // Closed at the end: the VM has it open by then, or nobody wants it.
  await using next = kind === "checkpoint" ? await layers.create(sandbox.record.nextLayer!) : undefined;

  const expecting =
    next && !diskOnly && children > 0 ? kitchen.nursery.expect(id, sandbox.record, children) : undefined;
  undo.defer(async () => expecting?.cancel());
  undo.defer(() => vm.cont().catch(() => {})); // whoever asked looks after one that does not run on
  await vm.stop();
  if (next) {
    await next.catchUp?.();
    await vm.switchDisk(next);
    sandbox.note({ layer: sandbox.record.nextLayer, nextLayer: undefined });
    expecting?.opens();
  }
  const base = existsSync(paths.base(home)) ? paths.base(home) : undefined;
  const taken = diskOnly ? undefined : await vm.capture(unfinished, { base, runsOn: next !== undefined });
  if (next) await vm.cont();
  if (taken) expecting?.takes(taken);
  const memoryBytes = (await taken?.write()) ?? 0;
  await publish(id, paths);
  const row = journaled(sandbox, kitchen, { id, kind, layer, memoryBytes, isDiskOnly: diskOnly });
  undo.move();
  if (next && taken) await rebase(paths, home, paths.snapshot(id)).catch(() => {}); // without, the next one is larger
  return row;
}

/** A checkpoint of a paused sandbox: another name for the files it was paused to. */
export async function checkpointPaused(sandbox: Sandbox, kitchen: Kitchen): Promise<SnapshotRecord> {
  const { paths } = kitchen;
  const paused = findSnapshot(kitchen, sandbox.record.snapshot!);
  const id = randomId();
  await using undo = new AsyncDisposableStack();
  const unfinished = await unfinishedFolder(id, paths, undo);
  for (const name of await readdir(paths.snapshot(paused.id)))
    await link(`${paths.snapshot(paused.id)}/${name}`, `${unfinished}/${name}`);
  await publish(id, paths);
  const { layer, memoryBytes, isDiskOnly } = paused;
  const row = journaled(sandbox, kitchen, { id, kind: "checkpoint", layer, memoryBytes, isDiskOnly });
  undo.move();
  return row;
}

/** The snapshot with this id. Throws `not_found`. */
export function findSnapshot({ journal }: Pick<Kitchen, "journal">, id: string): SnapshotRecord {
  const found = journal.snapshots.get(id);
  if (found) return found;
  throw new WrennError("not_found", `this host has no snapshot ${id}`, { details: { kind: "snapshot", id } });
}

/**
 * Removes a snapshot, once nobody is being started from it. The disk layers that only it stood on go with the caller's
 * next `collect`.
 */
export async function removeSnapshot(id: string, { journal, paths, holds }: Kitchen): Promise<void> {
  await holds.idle(id);
  const going = paths.unfinishedSnapshot(id); // a name that a killed agent's successor cleans up
  if (existsSync(paths.snapshot(id))) renameSync(paths.snapshot(id), going);
  journal.snapshots.remove(id);
  await rm(going, { recursive: true, force: true });
}

/** A new folder for a snapshot; with `undo` it goes, also when it has its name. */
export async function unfinishedFolder(id: string, paths: Paths, undo: AsyncDisposableStack): Promise<string> {
  const unfinished = paths.unfinishedSnapshot(id);
  for (const folder of [unfinished, paths.snapshot(id)]) undo.defer(() => rm(folder, { recursive: true, force: true }));
  await mkdir(unfinished, { recursive: true, mode: 0o700 });
  return unfinished;
}

/** Gives a whole snapshot its name, durably. */
export async function publish(id: string, paths: Paths): Promise<void> {
  await syncFolder(paths.unfinishedSnapshot(id));
  await rename(paths.unfinishedSnapshot(id), paths.snapshot(id));
  await syncFolder(paths.snapshot("."));
}

type Facts = Pick<SnapshotRecord, "id" | "kind" | "layer" | "memoryBytes"> & { isDiskOnly: boolean | undefined };

function journaled({ record }: Sandbox, { journal }: Kitchen, facts: Facts): SnapshotRecord {
  const { id: sandbox, run, spec, templateKey, token, defaultUser, origin: parent } = record;
  const row = { ...facts, sandbox, run, parent, spec, templateKey, token, defaultUser, createdAtMs: Date.now() };
  journal.snapshots.put(row);
  return row;
}

/** What the sandbox was asked to have, else what its image has. */
export const defaultsOf = ({ defaults }: SandboxSpec, image: Image): Defaults =>
  defaults ?? { user: image.defaultUser, workdir: image.defaultWorkdir, env: image.env };

/** Gives the guest its identity; without its acknowledgement the sandbox is never handed out. */
async function identify(
  sandbox: Sandbox,
  template: Template,
  agent: GuestAgent,
  { present, ...more }: { present: string | undefined; caBundle: string | undefined; diskBytes?: number },
): Promise<void> {
  const { id, token, spec } = sandbox.record;
  const { image } = template;
  const { user, workdir, env } = defaultsOf(spec, image);
  const identity: Identity = {
    accessToken: token,
    envVars: { ...env, ...spec.envs, WRENN_SANDBOX: "true", WRENN_SANDBOX_ID: id, WRENN_TEMPLATE_ID: image.name },
    defaultUser: user,
    defaultWorkdir: workdir,
    sandboxId: id,
    templateId: image.name,
    hostname: `wrenn-${id.slice(0, 8)}`,
    machineId: crypto.randomUUID().replaceAll("-", ""),
    ...(more.caBundle && { caBundle: more.caBundle }),
    ...(more.diskBytes !== undefined && { diskBytes: more.diskBytes }),
  };
  const taken = await agent.identify(identity, present);
  sandbox.record.versions = {
    ...sandbox.record.versions,
    kernel_version: template.kernel,
    envd_version: taken.version,
  };
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync(); // the names in it survive a power cut
}
