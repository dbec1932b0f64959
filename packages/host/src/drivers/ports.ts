import type { Pages } from "../memory/pages.ts";
import type { Limits } from "./cgroups.ts";

/**
 * What the recipes need of a machine, on three axes: virtual machines, disk layers, networks. Drivers trade only the
 * values below and say at start what they can take, so a wrong pair is refused before the first sandbox.
 */

export type DiskFormat = "raw" | "qcow2" | "dm";
export type LinkKind = "user" | "tap";

/** A file that disk layers lie on: an image's root file system, or the frozen disk of a template. Never written to. */
export type BaseDisk = { readonly path: string; readonly format: DiskFormat };

/**
 * A writable disk layer, open for one VM. Disposing closes it and leaves the file: what is kept is the recipe's choice. A
 * VM that has it open keeps it open.
 */
export type Disk = AsyncDisposable &
  BaseDisk & {
    /** What a VMM opens: the file itself, or a block device that shows it. */
    readonly device: string;
    usedBytes(): Promise<number>;
    /**
     * Of a layer over one that was being written to: takes what came since it was made, now that nobody writes. Absent
     * where a layer shows what lies below it at any time.
     */
    catchUp?(): Promise<void>;
  };

/** Disk layers. */
export interface Disks {
  readonly name: string;
  readonly gives: DiskFormat;
  /** File name extension of a layer. */
  readonly extension: string;
  /** An empty layer over `base`, as the new file `path`. */
  create(base: BaseDisk, path: string): Promise<Disk>;
  /** The layer at `path`. Throws `not_found` when it is not there. */
  open(path: string): Promise<Disk>;
  /** Bytes that only this layer occupies, where they are not what its file occupies. */
  ownBytes?(path: string): number;
  /** Makes a closed layer lie directly on `base`, so that the layers between are no longer needed. A crash in it harms nothing. */
  flatten(path: string, base: BaseDisk): Promise<void>;
  /** Tells a closed layer where its base is now: one of the same content as that it was made over. */
  rebase(path: string, base: BaseDisk): Promise<void>;
  /** Writes what a closed layer shows to the new file `to`, plain, with holes where nothing is. */
  copyOut(path: string, to: string): Promise<void>;
  /** Lets go of what a killed agent has left open. What VMs or this process use stays. */
  sweep(): Promise<void>;
}

/**
 * What a guest may reach, above the floor that nothing lifts: no private range, no cloud metadata, not this machine, no
 * other sandbox. A rule is an address, a range in CIDR form, or a domain name (`*.` before one: every name below it).
 * `allow` goes before `deny`; what neither names follows `internet`.
 */
export type NetPolicy = {
  readonly internet: boolean;
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  /** Megabits a second; `undefined` for no limit. */
  readonly receiveMbit?: number | undefined;
  readonly transmitMbit?: number | undefined;
  /** Headers that requests to a host get, by host name as in a rule; their values may be secrets. */
  readonly rewrites?: Readonly<Record<string, Readonly<Record<string, string>>>> | undefined;
  /** What the guest trusts for the hosts of `rewrites`. */
  readonly authority?: { readonly cert: string; readonly key: string } | undefined;
};

/** Connections of a guest to one port of one host, or what was refused of them. */
export type Flow = {
  /** The name it asked for, where that was seen; else empty. */
  readonly host: string;
  readonly ip: string;
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  readonly count: number;
  readonly lastAtMs: number;
  /** Where they go through this agent. */
  readonly sentBytes?: number;
  readonly receivedBytes?: number;
};

/** What a guest reached and what it was refused in the last hour, the newest first. */
export type Flows = { readonly allowed: readonly Flow[]; readonly denied: readonly Flow[] };

/** What went through a guest's network so far, as the guest counts it. */
export type NetCounters = {
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly receivedPackets: number;
  readonly sentPackets: number;
};

/** A guest's network. A link that is not open lets this machine reach the guest, and the guest nothing. */
export type Nic = AsyncDisposable & {
  readonly link:
    | { readonly kind: "user"; readonly guestPorts: readonly number[]; readonly isOpen: boolean }
    | { readonly kind: "tap"; readonly netns: string; readonly dev: string };
  /** The address of the guest as it sees itself. */
  readonly guestIp: string;
  /** The VMM tells which host ports it forwards to the guest's, adding to what it told before (user links only). */
  forwarded(ports: ReadonlyMap<number, number>): void;
  /** `host:port` at which this machine reaches a port of the guest; `undefined` for one that is not forwarded. */
  reach(guestPort: number): string | undefined;
  /** Puts a policy in force, also for connections that exist. Absent where none can be held. */
  setPolicy?(policy: NetPolicy): Promise<void>;
  /** What was reached and refused; from the first time that this is asked where no policy is in force. */
  flows?(): Promise<Flows>;
  counters?(): Promise<NetCounters>;
};

/** Networks. */
export interface Nets extends Partial<AsyncDisposable> {
  readonly name: string;
  readonly gives: LinkKind;
  /** Whether guests can be told apart in what they may reach, and how. */
  readonly egress: { readonly holdsPolicies: boolean; readonly isOpen: boolean; readonly detail: string };
  /**
   * The network of a sandbox: the one that it has, where a former agent made it. With `isolated` the guest can be reached
   * and reaches nothing, whatever others may.
   */
  attach(sandbox: string, isolated?: boolean): Promise<Nic>;
  /** Lets go of the networks of a former agent's sandboxes that were not attached again. */
  sweep(): Promise<void>;
}

/** A template's memory, device state and disk, taken at one instant; immutable. */
export type Frozen = {
  readonly dir: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly disk: BaseDisk;
};

/** What a VM runs with. `dir` is the VM's own folder: control socket, log. */
export type VmSpec = {
  readonly name: string;
  readonly dir: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly disk: Disk;
  readonly nic: Nic;
  /** To be called with the VMM's process id as soon as there is one, before it runs anything of a guest. */
  readonly confine?: (pid: number) => Promise<void>;
};

/** How a VM's memory is taken. */
export type Capture = {
  /** Folder with a generation of this VM's memory (`memory/generation.ts`), to save over. */
  readonly base?: string | undefined;
  /** It is to run on as soon as possible, at the price of a copy of what it changed. */
  readonly runsOn?: boolean;
};

/** What was taken of a stopped VM, which may run on. */
export type Captured = {
  /** Puts it into the folder it was taken for, durably; gives the bytes that were new. */
  write(): Promise<number>;
  /** Where it is at hand: devices and all memory that differs from the template, for `Vmm.restoreFrom`. */
  readonly state?: { readonly device: Uint8Array; readonly pages: readonly Pages[] } | undefined;
};

/** A virtual machine that exists. Disposing kills its VMM process and waits for its end; twice is harmless. */
export type Vm = AsyncDisposable & {
  readonly pid: number;
  /** Settles when the VMM process has ended for any reason; says which. */
  readonly exited: Promise<string>;
  /** Stops the virtual processors; what the guest had written to its disk is in the layer's file afterwards. */
  stop(): Promise<void>;
  /** Lets them run on. */
  cont(): Promise<void>;
  /** Facts that programs in the guest can ask for; no secrets. Absent where the VMM has no such service. */
  describe?(facts: Readonly<Record<string, string>>): Promise<void>;
  /** Makes one more port of the guest reachable, and tells its network. A port that is reachable stays as it is. */
  forward(guestPort: number): Promise<void>;
  /** Of a stopped VM: continues on the layer `next`, which lies on the present one; that one is never written to again. */
  switchDisk(next: Disk): Promise<void>;
  /** Of a stopped VM: makes its disk `mib` large, which its guest sees when it runs. Absent where disks cannot grow. */
  growDisk?(mib: number): Promise<void>;
  /** Whether this is the disk layer that it writes to. */
  writesTo(disk: Disk): Promise<boolean>;
  /**
   * Of a stopped VM: takes device state and the memory that differs from its template, for the empty folder `dir`. The VM
   * may run on as soon as this has answered.
   */
  capture(dir: string, how?: Capture): Promise<Captured>;
  /** Lets go of the VM, which runs on: whoever adopts it next can control it. */
  detach(): Promise<void>;
  /** What the journal keeps so that `Vmm.adopt` finds this VM again after the agent was restarted. */
  readonly handle: VmHandle;
};

/** Enough to find a VM again: start time guards against a reused process id. */
export type VmHandle = {
  readonly pid: number;
  readonly startTime: string;
  readonly ports: readonly (readonly [guest: number, host: number])[];
};

/** A machine to boot cold, to become a template. `memory` is the file that backs the guest's memory. */
export type BootSpec = VmSpec & { readonly memory: string; readonly kernel: Kernel };

/** A guest kernel of `$WRENN_DIR/kernels`. */
export type Kernel = { readonly version: string; readonly path: string; readonly initrd: string | undefined };

/** Virtual machine monitors. */
export interface Vmm {
  readonly name: string;
  readonly version: string;
  readonly accelerator: string;
  readonly takes: { readonly disk: readonly DiskFormat[]; readonly link: readonly LinkKind[] };
  /** Whatever a frozen template depends on besides image, kernel and size: a change makes a new template. */
  readonly fingerprint: string;
  /** What a guest's clock was calibrated with, where machines of the same fingerprint may differ in it. */
  readonly clock?: string;
  /** Group of its processes, which may read templates. */
  readonly group: number;
  /** Boots a guest cold. */
  boot(spec: BootSpec): Promise<Vm>;
  /** Of a stopped VM that `boot` gave: writes its device state into `dir`, beside its memory file and disk, and ends it. */
  freeze(vm: Vm, dir: string): Promise<void>;
  /**
   * Boots a guest cold on memory of its own, stopped before it did anything that shows. What its memory becomes is saved
   * and restored as that of every VM of `frozen`.
   */
  bootOver(spec: VmSpec, frozen: Frozen, kernel: Kernel): Promise<Vm>;
  /** Starts a VM, stopped, from `frozen`; with `saved`, a folder that `Vm.capture` wrote, its memory and devices on top. */
  restore(spec: VmSpec, frozen: Frozen, saved?: string): Promise<Vm>;
  /**
   * As `restore`, from what is just being captured of another VM, before it is in any file: the VMM starts meanwhile.
   * Absent where a VM starts from files only. Throws when the capture holds no state.
   */
  restoreFrom?(spec: VmSpec, frozen: Frozen, capturing: Promise<Captured>): Promise<Vm>;
  /** The VM of a former agent, if it is still that process and answers. */
  adopt(spec: VmSpec, frozen: Frozen, handle: VmHandle): Promise<Vm | undefined>;
  /** Kills every VM whose folder lies below `root` and whose process is not in `keep`; gives their process ids. */
  sweep(root: string, keep: ReadonlySet<number>): Promise<number[]>;
}

/** The three axes that this machine runs with, and the bounds it puts around VMMs. */
export type Drivers = { readonly vmm: Vmm; readonly disks: Disks; readonly nets: Nets; readonly limits?: Limits };

/** Refuses, by name, drivers that do not fit together. */
export function fitting(drivers: Drivers): Drivers {
  const { vmm, disks, nets } = drivers;
  if (!vmm.takes.disk.includes(disks.gives))
    throw new Error(
      `the VMM ${vmm.name} takes ${vmm.takes.disk.join(" or ")} disks; ${disks.name} gives ${disks.gives}`,
    );
  if (!vmm.takes.link.includes(nets.gives))
    throw new Error(`the VMM ${vmm.name} takes ${vmm.takes.link.join(" or ")} links; ${nets.name} gives ${nets.gives}`);
  return drivers;
}
