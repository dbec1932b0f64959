import { mkdir, stat } from "node:fs/promises";
import { DmSnapshot } from "../../packages/host/src/drivers/dm/dm-snapshot.ts";
import { Firecracker } from "../../packages/host/src/drivers/firecracker/driver.ts";
import { NetnsTap } from "../../packages/host/src/drivers/netns/netns-tap.ts";
import type { Drivers, Vmm } from "../../packages/host/src/drivers/ports.ts";
import { Qcow2 } from "../../packages/host/src/drivers/qcow2.ts";
import { Qemu } from "../../packages/host/src/drivers/qemu/driver.ts";
import { findImage, newestKernel } from "../../packages/host/src/images.ts";
import { cpuModel } from "../../packages/host/src/probe.ts";
import type { VmmBench } from "../../packages/host/test/suites/vmm.ts";
import { quiet } from "../../packages/host/test/support/host.ts";

/** Programs that were brought into the lab's host from outside, where they were. */
export const firecracker = Bun.which("firecracker") ?? undefined;
export const jailer = Bun.which("jailer") ?? undefined;

/** Why cases with Firecracker do not run; `undefined` when they do. */
export const noFirecracker = firecracker ? undefined : "Firecracker is missing (FIRECRACKER_BIN)";
export const noJailer = noFirecracker ?? (jailer ? undefined : "the jailer is missing (JAILER_BIN)");

/** The data folder of the lab's host, with the guest image and kernel. */
export const wrennDir = process.env.WRENN_DIR!;

/** Networks of one test file. */
export async function networks(name: string, ready = 1): Promise<NetnsTap> {
  return NetnsTap.start({ dir: `${wrennDir}/${name}`, gid: (await stat("/dev/kvm")).gid, ready }, quiet);
}

/** Firecracker on device mapper and taps: what production runs. */
export async function firecrackerDrivers(nets: NetnsTap, how: { jailed: boolean }): Promise<Drivers> {
  const machine = {
    ...{ binary: firecracker!, jailer: how.jailed ? jailer! : undefined },
    gid: (await stat("/dev/kvm")).gid,
  };
  const said = Bun.spawnSync([firecracker!, "--version"]).stdout.toString();
  const vmm: Vmm = new Firecracker(machine, /v([\d.]+)/.exec(said)![1]!, cpuModel());
  return { vmm, disks: new DmSnapshot(), nets };
}

/** QEMU with real KVM on qcow2 and taps. */
export async function qemuDrivers(nets: NetnsTap): Promise<Drivers> {
  const binary = Bun.which("qemu-system-x86_64")!;
  const { gid } = await stat("/dev/kvm");
  const vmm = new Qemu({ accelerator: "kvm", binary, tscKhz: undefined, gid }, "lab", cpuModel());
  return { vmm, disks: new Qcow2(Bun.which("qemu-img")!), nets };
}

/** In the guest's memory, not on its disk. */
const word = "files?path=/dev/shm/word&username=root";

/** What the suite of `Vmm` tries drivers on. */
export async function vmmBench(drivers: Drivers): Promise<VmmBench> {
  const root = `${wrennDir}/tests`;
  await mkdir(root, { recursive: true, mode: 0o755 });
  return {
    ...{ drivers, root, kernel: await newestKernel(wrennDir), rootfs: (await findImage(wrennDir, "minimal")).rootfs },
    remember: async (address, text) => {
      const headers = { "content-type": "application/octet-stream" };
      const answer = await fetch(`http://${address}/${word}`, { method: "POST", headers, body: text });
      if (!answer.ok) throw new Error(`the guest answered ${answer.status}: ${await answer.text()}`);
    },
    recall: async (address) => (await fetch(`http://${address}/${word}`)).text(),
  };
}
