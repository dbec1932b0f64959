import { closeSync, openSync, unlinkSync } from "node:fs";
import { realpath, rm } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import { give, ownerOf, takeBack } from "../owner.ts";
import type { BootSpec, Captured, Frozen, Kernel, Vm, VmHandle, Vmm, VmSpec } from "../ports.ts";
import { killProcess, spawnVmm, startTimeOf } from "../process.ts";
import { arguments_, type Launch, type Machine, shapeOf } from "./args.ts";
import { Qmp } from "./qmp.ts";
import { sweepQemu } from "./sweep.ts";
import { forwardedPorts, loadCaptured, loadSaved, QemuVm } from "./vm.ts";

/** How often a former agent's VM is looked at: it is no child of this process, so nothing else tells of its end. */
const adoptedPollMs = 500;

/** An incoming state is 13 kB; loading it takes milliseconds, also on a busy host. */
const loadTimeoutMs = 20_000;

/** Counters whose rates differ by less are taken for the same: a guest's clock is set at every resume. */
const clockStepKhz = 50_000;

/** QEMU's microvm machine, with KVM or by emulation. */
export class Qemu implements Vmm {
  readonly name = "qemu";
  readonly takes = { disk: ["qcow2"], link: ["user", "tap"] } as const;
  readonly accelerator: string;
  readonly fingerprint: string;
  readonly clock?: string;

  constructor(
    readonly machine: Machine,
    readonly version: string,
    hostCpu: string,
  ) {
    this.accelerator = machine.accelerator;
    // Memory frozen under KVM holds choices the guest made for this processor; emulation gives the same one everywhere.
    const cpu = machine.accelerator === "kvm" ? hostCpu : "max";
    // An emulated guest sees the ticks of this machine's counter; two of one rate differ by a hair in each measurement.
    if (machine.accelerator === "tcg" && machine.tscKhz)
      this.clock = `tsc ${Math.round(machine.tscKhz / clockStepKhz)}`;
    this.fingerprint = ["qemu", version, machine.accelerator, cpu, shapeOf(machine)].join(" ");
  }

  get group(): number {
    return this.machine.gid;
  }

  async boot(spec: BootSpec): Promise<Vm> {
    const launch = { ...spec, sharesMemory: true, begins: "running" } as const;
    return this.#launch(launch, undefined, async () => {});
  }

  async freeze(vm: Vm, dir: string): Promise<void> {
    await (vm as QemuVm).saveDevices(`${dir}/device`);
    await vm[Symbol.asyncDispose](); // its end completes the memory file
    const [disk] = await Array.fromAsync(new Bun.Glob("disk.*").scan({ cwd: dir }));
    await takeBack(this.machine.gid, {
      ...{ [dir]: 0o755, [`${dir}/${disk}`]: 0o444, [`${dir}/device`]: 0o400, [`${dir}/memory`]: 0o660 },
    });
  }

  /** A kernel that starts takes no notice of what the memory it finds held before: here that is the template's. */
  async bootOver(spec: VmSpec, frozen: Frozen, kernel: Kernel): Promise<Vm> {
    const memory = await realpath(`${frozen.dir}/memory`); // as /proc names it
    const launch = { ...spec, memory, kernel, sharesMemory: false, begins: "stopped" } as const;
    return this.#launch(launch, undefined, async () => {});
  }

  async restore(spec: VmSpec, frozen: Frozen, saved?: string): Promise<Vm> {
    const state = openSync(`${saved ?? frozen.dir}/device`, "r");
    return this.#restore(spec, { frozen, state }, async ({ pid, memory }) => {
      if (saved) await loadSaved(pid, memory!, saved);
    });
  }

  async restoreFrom(spec: VmSpec, frozen: Frozen, capturing: Promise<Captured>): Promise<Vm> {
    const path = `${spec.dir}/state`;
    const state = openSync(path, "wx+", 0o600);
    unlinkSync(path); // QEMU has it open
    return this.#restore(spec, { frozen, state }, ({ pid, memory }) =>
      loadCaptured({ pid, memory: memory! }, capturing, state),
    );
  }

  /** `fill` puts the memory in; `state` holds the devices by then, and is closed at the end. */
  async #restore(
    spec: VmSpec,
    { frozen, state }: { frozen: Frozen; state: number },
    fill: (vm: QemuVm) => Promise<void>,
  ): Promise<Vm> {
    try {
      const memory = await realpath(`${frozen.dir}/memory`); // as /proc names it
      const launch = { ...spec, memory, sharesMemory: false, kernel: undefined, begins: "incoming" } as const;
      return await this.#launch(launch, state, async (vm) => {
        await fill(vm);
        await load(vm.qmp);
      });
    } finally {
      closeSync(state);
    }
  }

  async adopt(spec: VmSpec, frozen: Frozen, handle: VmHandle): Promise<Vm | undefined> {
    if (startTimeOf(handle.pid) !== handle.startTime) return undefined;
    const alive = () => startTimeOf(handle.pid) === handle.startTime;
    const qmp = await Qmp.connect(`${spec.dir}/qmp.sock`, alive).catch(() => undefined);
    if (!qmp) return undefined;
    spec.nic.forwarded(new Map(handle.ports));
    return new QemuVm(spec, qmp, handle, untilGone(alive), await realpath(`${frozen.dir}/memory`));
  }

  sweep(root: string, keep: ReadonlySet<number>): Promise<number[]> {
    return sweepQemu(root, keep);
  }

  /** Starts QEMU and prepares it; whatever fails, the process is gone and its own words are in the error. */
  async #launch(launch: Launch, state: number | undefined, prepare: (vm: QemuVm) => Promise<void>): Promise<Vm> {
    const log = `${launch.dir}/qemu.log`;
    await rm(`${launch.dir}/qmp.sock`, { force: true }); // a former process's socket looks ready and is not
    await give(launch.name, [launch.dir, launch.disk.device, ...(launch.sharesMemory ? [launch.memory] : [])]);
    const uid = ownerOf(launch.name);
    const child = spawnVmm([this.machine.binary, ...arguments_(this.machine, launch)], {
      ...{ link: launch.nic.link, uid, gid: this.machine.gid, cwd: launch.dir, log, inherit: state },
    });
    const handle = { pid: child.pid, startTime: startTimeOf(child.pid) ?? "", ports: [] };
    try {
      await launch.confine?.(child.pid);
      const qmp = await Qmp.connect(`${launch.dir}/qmp.sock`, () => child.exitCode === null && !child.killed);
      const ports = launch.nic.link.kind === "user" ? await forwardedPorts(qmp, child.pid) : new Map<number, number>();
      launch.nic.forwarded(ports);
      const exited = child.exited.then(async (code) => {
        if (child.signalCode) return `killed by ${child.signalCode}`;
        await qmp.closed; // what QEMU said last may still be on its way
        // QEMU ends with 0 for this too, and a panic must not look as if somebody had switched the machine off.
        return qmp.shutdownReason === "guest-reset" ? "its kernel panicked or restarted" : `exit status ${code}`;
      });
      const vm = new QemuVm(
        launch,
        qmp,
        { ...handle, ports: [...ports] },
        exited,
        launch.sharesMemory ? undefined : launch.memory,
      );
      await prepare(vm);
      return vm;
    } catch (thrown) {
      await killProcess(handle);
      throw await explained(thrown, log);
    }
  }
}

/** Loads the device state that QEMU inherited as descriptor 3; the machine is stopped afterwards. */
async function load(qmp: Qmp): Promise<void> {
  await qmp.call("migrate-incoming", { uri: "fd:3" });
  const deadline = performance.now() + loadTimeoutMs;
  for (;;) {
    const { status } = await qmp.call<{ status?: string }>("query-migrate");
    if (status === "completed") return;
    if (status === "failed" || performance.now() > deadline)
      throw new WrennError("agent_error", "QEMU did not take the saved device state");
    await Bun.sleep(1);
  }
}

async function untilGone(alive: () => boolean): Promise<string> {
  while (alive()) await Bun.sleep(adoptedPollMs);
  return "ended";
}

/** QEMU says on stderr why it ended; without that an operator would see only that it did. */
async function explained(thrown: unknown, log: string): Promise<unknown> {
  const said = (
    await Bun.file(log)
      .text()
      .catch(() => "")
  )
    .trim()
    .split("\n")
    .slice(-3)
    .join("; ");
  if (!said || !(thrown instanceof WrennError)) return thrown;
  return new WrennError(thrown.code, `${thrown.message}: ${said}`, { remedy: thrown.remedy, cause: thrown.cause });
}
