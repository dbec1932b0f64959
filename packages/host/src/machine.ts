import { mkdir, rm } from "node:fs/promises";
import { randomId } from "@wrenn/contract";
import type { Captured, Disk, Drivers, Kernel, Nic, Vm, VmSpec } from "./drivers/ports.ts";
import { linkGeneration } from "./memory/generation.ts";
import type { Paths } from "./paths.ts";
import type { MachineRecord } from "./record.ts";
import type { Template } from "./templates.ts";

/** A VM with all it holds. Disposing `held` kills it, then releases network and disk and removes its folder; data stays. */
export type Machine = {
  readonly home: string;
  readonly disk: Disk;
  readonly nic: Nic;
  readonly vm: Vm;
  readonly held: AsyncDisposableStack;
};

/**
 * What a machine starts from. `saved` is the folder of a snapshot's memory and devices, on top of the template's;
 * `capturing` is the same before it is in any folder; with `kernel` it has nothing of either and boots.
 */
export type Origin = {
  readonly template: Template;
  readonly saved?: string | undefined;
  readonly capturing?: Promise<Captured> | undefined;
  readonly kernel?: Kernel | undefined;
  readonly isolated?: boolean | undefined;
};

/** Starts a machine, stopped, on the layer that `disk` makes. On any throw nothing of it is left. */
export async function raise(
  { drivers, paths }: { drivers: Drivers; paths: Paths },
  { template, saved, capturing, kernel, isolated }: Origin,
  makeDisk: () => Promise<Disk>,
): Promise<Machine> {
  const home = randomId();
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(paths.machine(home), { recursive: true, force: true }));
  undo.defer(async () => drivers.limits?.release(home)); // after the VM, which must have ended
  await mkdir(paths.machine(home), { recursive: true, mode: 0o700 });
  undo.defer(() => rm(paths.base(home), { recursive: true, force: true }));
  if (saved) await rebase(paths, home, saved);
  const disk = undo.use(await makeDisk());
  const nic = undo.use(await drivers.nets.attach(home, isolated));
  const spec = vmSpec(home, template, { drivers, paths, disk, nic });
  const { vmm } = drivers;
  const { frozen } = template;
  const start = () => {
    if (kernel) return vmm.bootOver(spec, frozen, kernel);
    return capturing ? vmm.restoreFrom!(spec, frozen, capturing) : vmm.restore(spec, frozen, saved);
  };
  const vm = undo.use(await start());
  return { home, disk, nic, vm, held: undo.move() };
}

/** Makes the generation in `snapshot` what a machine's next one is saved over. Any of its own will do, also an older one. */
export async function rebase(paths: Paths, home: string, snapshot: string): Promise<void> {
  await rm(paths.base(home), { recursive: true, force: true });
  await mkdir(paths.base(home), { recursive: true, mode: 0o700 });
  await linkGeneration(snapshot, paths.base(home));
}

/** The machine of a former agent, or `undefined` when it is gone. */
export async function adopt(
  { drivers, paths }: { drivers: Drivers; paths: Paths },
  record: MachineRecord,
  template: Template,
  disk: Disk,
): Promise<Machine | undefined> {
  await using undo = new AsyncDisposableStack();
  for (const folder of [paths.machine(record.home), paths.base(record.home)])
    undo.defer(() => rm(folder, { recursive: true, force: true }));
  undo.defer(async () => drivers.limits?.release(record.home));
  undo.use(disk);
  const nic = undo.use(await drivers.nets.attach(record.home));
  const spec = vmSpec(record.home, template, { drivers, paths, disk, nic });
  const vm = await drivers.vmm.adopt(spec, template.frozen, record.handle);
  if (!vm) return undefined;
  undo.use(vm);
  return { home: record.home, disk, nic, vm, held: undo.move() };
}

/** What the journal keeps of a machine. */
export const recordOf = ({ home, vm }: Machine): MachineRecord => ({ home, handle: vm.handle });

type Parts = { drivers: Drivers; paths: Paths; disk: Disk; nic: Nic };

function vmSpec(home: string, template: Template, { drivers, paths, disk, nic }: Parts): VmSpec {
  const { vcpus, memoryMib } = template.frozen;
  const confine = async (pid: number) => drivers.limits?.confine(home, pid, { vcpus, memoryMib });
  return { name: home, dir: paths.machine(home), vcpus, memoryMib, disk, nic, confine };
}
