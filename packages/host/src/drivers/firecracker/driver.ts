import { closeSync, fstatSync, fsyncSync, openSync, readSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { arch, release } from "node:os";
import { WrennError } from "@wrenn/contract";
import { punchHole } from "../libc.ts";
import { tapNet } from "../netns/addresses.ts";
import { takeBack } from "../owner.ts";
import type { BootSpec, Frozen, Kernel, Vm, VmHandle, Vmm, VmSpec } from "../ports.ts";
import { killProcess, startTimeOf } from "../process.ts";
import { FirecrackerApi, type RateLimiter, type TokenBucket } from "./api.ts";
import { socketName } from "./home.ts";
import { letGo } from "./instant.ts";
import { homeOf, type Launched, launch, type Machine, processesBelow, releaseGroup, untilGone } from "./launch.ts";
import { checkSaved, FirecrackerVm, loadSaved } from "./vm.ts";

const commandLine = [
  // No serial port: what a guest prints there costs an exit for each byte, and nobody reads it.
  "8250.nr_uarts=0 quiet loglevel=1 reboot=k panic=1 i8042.noaux i8042.nomux i8042.dumbkbd",
  "root=/dev/vda rw rootfstype=ext4 init=/usr/local/bin/wrenn-init",
  `wrenn.ip=${tapNet.ip}/${tapNet.prefix} wrenn.gw=${tapNet.gateway} wrenn.dns=${tapNet.gateway}`,
  "random.trust_cpu=on cryptomgr.notests",
].join(" ");

/** What a guest may do to its disk, and receive and send; `undefined` for no limit. */
export type GuestLimits = {
  readonly diskMibPerSecond?: number | undefined;
  readonly diskOpsPerSecond?: number | undefined;
  readonly netMbitPerSecond?: number | undefined;
};

/** Where programs in the guest find facts about their sandbox, as on most clouds: the VMM answers there itself. */
export const metadataIp = "169.254.169.254";

/** Firecracker, in its jail or plain. Needs KVM, block devices or raw files for disks, and taps. */
export class Firecracker implements Vmm {
  readonly name = "firecracker";
  readonly accelerator = "kvm";
  readonly takes = { disk: ["dm", "raw"], link: ["tap"] } as const;
  readonly fingerprint: string;

  constructor(
    readonly machine: Machine,
    readonly version: string,
    hostCpu: string,
    readonly limits: GuestLimits = {},
  ) {
    // A snapshot holds the processor's features and KVM's state: it fits this version, processor and kernel.
    this.fingerprint = ["firecracker", version, hostCpu, arch(), release()].join(" ");
  }

  get group(): number {
    return this.machine.gid;
  }

  boot(spec: BootSpec): Promise<Vm> {
    return this.#boot(spec, spec.kernel, undefined);
  }

  /** Firecracker boots in memory of no file; it is saved whole then, and its next VM maps the template's. */
  async bootOver(spec: VmSpec, frozen: Frozen, kernel: Kernel): Promise<Vm> {
    const vm = await this.#boot(spec, kernel, `${frozen.dir}/memory`);
    return this.#prepared(vm, () => vm.stop());
  }

  async #boot(spec: VmSpec, kernel: Kernel, memory: string | undefined): Promise<FirecrackerVm> {
    if (spec.vcpus > 1 && spec.vcpus % 2 === 1)
      throw new WrennError("invalid_request", `Firecracker takes 1 or an even number of processors, not ${spec.vcpus}`);
    const launched = await launch(this.machine, spec, async (home) => {
      await home.bring(kernel.path, "kernel");
      if (kernel.initrd) await home.bring(kernel.initrd, "initrd");
      home.bringDisk(spec.disk.device);
    });
    const vm = this.#vm(spec, launched, memory);
    return this.#prepared(vm, async ({ api }) => {
      const initrd = kernel.initrd ? { initrd_path: "initrd" } : {};
      await api.put("/boot-source", { kernel_image_path: "kernel", boot_args: commandLine, ...initrd });
      await api.put("/machine-config", {
        ...{ vcpu_count: spec.vcpus, mem_size_mib: spec.memoryMib, smt: false, track_dirty_pages: false },
      });
      await api.put("/drives/rootfs", {
        ...{ drive_id: "rootfs", path_on_host: "disk", is_root_device: true, is_read_only: false },
        cache_type: "Writeback", // a guest that asks for its data to be safe is not lied to
      });
      await api.put("/network-interfaces/eth0", {
        ...{ iface_id: "eth0", host_dev_name: "tap0", guest_mac: tapNet.guestMac },
      });
      await api.put("/mmds/config", {
        ...{ version: "V2", network_interfaces: ["eth0"], ipv4_address: metadataIp, imds_compat: true },
      });
      await api.put("/entropy", {});
      await api.put("/actions", { action_type: "InstanceStart" });
    });
  }

  async freeze(vm: Vm, dir: string): Promise<void> {
    const { api, home } = vm as FirecrackerVm;
    const names = { device: "device.new", memory: "memory.new" };
    await api.put("/snapshot/create", {
      ...{ snapshot_type: "Full", snapshot_path: names.device, mem_file_path: names.memory },
    });
    await vm[Symbol.asyncDispose]();
    for (const [name, fresh] of Object.entries(names)) await rename(`${home.root}/${fresh}`, `${dir}/${name}`);
    digHoles(`${dir}/memory`);
    for (const left of ["kernel", "initrd", "disk", socketName, "firecracker", "vmm.log"])
      await rm(`${dir}/${left}`, { recursive: true, force: true });
    const { gid } = this.machine;
    await takeBack(gid, { [dir]: 0o755, [`${dir}/device`]: 0o440, [`${dir}/memory`]: 0o440 });
  }

  async restore(spec: VmSpec, frozen: Frozen, saved?: string): Promise<Vm> {
    if (saved) await checkSaved(saved, this.fingerprint);
    const from = saved ?? frozen.dir;
    const launched = await launch(this.machine, spec, async (home) => {
      await takeBack(this.machine.gid, saved ? { [`${saved}/device`]: 0o440 } : {});
      await home.bring(`${from}/device`, "device");
      await home.bring(`${frozen.dir}/memory`, "memory");
      home.bringDisk(spec.disk.device);
    });
    const vm = this.#vm(spec, launched, `${frozen.dir}/memory`);
    return this.#prepared(vm, async ({ api }) => {
      await api.put("/snapshot/load", {
        snapshot_path: "device",
        mem_backend: { backend_type: "File", backend_path: "memory" },
        // What a guest changed is read from its process: tracking it would only make its writes slower.
        ...{ track_dirty_pages: false, resume_vm: false },
      });
      if (saved) await loadSaved(vm.pid, `${frozen.dir}/memory`, saved);
      await limit(api, this.limits);
    });
  }

  async adopt(spec: VmSpec, frozen: Frozen, handle: VmHandle): Promise<Vm | undefined> {
    const alive = () => startTimeOf(handle.pid) === handle.startTime;
    if (!alive()) return undefined;
    const home = homeOf(this.machine, spec);
    const api = new FirecrackerApi(home.socket, this.machine.patience);
    await letGo({ api, home });
    if (!(await api.info().catch(() => undefined))) return undefined;
    return this.#vm(spec, { ...handle, api, home, exited: untilGone(home.socket, alive) }, `${frozen.dir}/memory`);
  }

  async sweep(root: string, keep: ReadonlySet<number>): Promise<number[]> {
    const strays = (await processesBelow(this.machine, root)).filter(({ pid }) => !keep.has(pid));
    for (const { pid, name } of strays) {
      await killProcess({ pid, startTime: startTimeOf(pid) ?? "", ports: [] });
      await releaseGroup(name);
    }
    return strays.map(({ pid }) => pid);
  }

  #vm(spec: VmSpec, launched: Launched, memory: string | undefined): FirecrackerVm {
    return new FirecrackerVm(spec, launched, { memory, fingerprint: this.fingerprint });
  }

  /** What fails on the way to a VM ends it. */
  async #prepared(vm: FirecrackerVm, prepare: (vm: FirecrackerVm) => Promise<void>): Promise<FirecrackerVm> {
    try {
      await prepare(vm);
      return vm;
    } catch (thrown) {
      await vm[Symbol.asyncDispose]();
      throw thrown;
    }
  }
}

/** Bounds a restored guest; a snapshot holds the bounds of when it was taken. */
async function limit(api: FirecrackerApi, limits: GuestLimits): Promise<void> {
  const { diskMibPerSecond: mib, diskOpsPerSecond: ops, netMbitPerSecond: mbit } = limits;
  const disk: RateLimiter = {
    ...(mib === undefined ? {} : { bandwidth: perSecond(mib * 2 ** 20) }),
    ...(ops === undefined ? {} : { ops: perSecond(ops) }),
  };
  if (Object.keys(disk).length > 0) await api.patch("/drives/rootfs", { drive_id: "rootfs", rate_limiter: disk });
  if (mbit === undefined) return;
  const each: RateLimiter = { bandwidth: perSecond((mbit * 1e6) / 8) };
  await api.patch("/network-interfaces/eth0", { iface_id: "eth0", rx_rate_limiter: each, tx_rate_limiter: each });
}

const perSecond = (size: number): TokenBucket => ({ size, refill_time: 1_000 });

/** Makes pages of zeros holes: Firecracker writes them, and a guest has many that it never touched. */
function digHoles(path: string): void {
  const pageBytes = 4096;
  const fd = openSync(path, "r+");
  try {
    const { size } = fstatSync(fd);
    const chunk = new Uint8Array(1 << 20);
    const zeros = new Uint8Array(pageBytes);
    for (let at = 0; at < size; at += chunk.length) {
      const got = readSync(fd, chunk, 0, chunk.length, at);
      let first: number | undefined;
      for (let page = 0; page <= got; page += pageBytes) {
        const isZero = page < got && Buffer.compare(chunk.subarray(page, page + pageBytes), zeros) === 0;
        if (isZero) first ??= page;
        else if (first !== undefined) {
          punchHole(fd, at + first, page - first);
          first = undefined;
        }
      }
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
