import { tapNet } from "../netns/addresses.ts";
import type { Kernel, Nic, VmSpec } from "../ports.ts";

/** How the machine is emulated or virtualised; part of every template's key. */
export type Machine = {
  readonly accelerator: "kvm" | "tcg";
  readonly binary: string;
  /** The host's time-stamp counter, kHz: saves an emulated guest the calibration that stalls on a busy host. */
  readonly tscKhz: number | undefined;
  /** Group of VMM processes: the one that may open `/dev/kvm`, where that is used. */
  readonly gid: number;
};

/** Where the guest finds itself; the same in every sandbox, so that a restore needs no re-addressing. */
export const guestNet = { ip: "169.254.0.21", gateway: "169.254.0.22", dns: "169.254.0.23", subnet: "169.254.0.0/24" };

/**
 * Megabytes of QEMU's buffer of translated code. The default is a quarter of the guest's memory up to 1 GiB; the buffer
 * is only touched as far as it is used, and a flush costs a sandbox its warm code.
 */
const translationBufferMib = 128;

/** Name of the guest's disk in QEMU's machine protocol. */
export const diskId = "d";

/** Name of the guest's network in QEMU's monitors. */
export const netId = "n";

/** What the kernel is booted with, beside the network's words. */
const bootWords = (machine: Machine): string =>
  [
    "console=ttyS0 quiet loglevel=1 reboot=t panic=-1",
    "root=/dev/vda rw rootfstype=ext4 init=/usr/local/bin/wrenn-init",
    "random.trust_cpu=on cryptomgr.notests", // the self-tests cost an emulated boot half a second
    // An emulated processor does not speculate: the kernel's defences against that would only be translated and run.
    ...(machine.accelerator === "tcg" ? ["tsc=reliable wrenn.emulated=1 mitigations=off psi=0"] : []),
    ...(machine.accelerator === "tcg" && machine.tscKhz ? [`tsc_early_khz=${machine.tscKhz}`] : []),
  ].join(" ");

/** What the guest's init is told of its network. */
const guestWords = (link: Nic["link"]): string =>
  link.kind === "tap"
    ? `wrenn.ip=${tapNet.ip}/${tapNet.prefix} wrenn.gw=${tapNet.gateway} wrenn.dns=${tapNet.gateway}`
    : `wrenn.ip=${guestNet.ip}/24 wrenn.gw=${guestNet.gateway} wrenn.dns=${guestNet.dns}`;

function netdev(link: Nic["link"]): string {
  if (link.kind === "tap") return `tap,id=${netId},ifname=${link.dev},script=no,downscript=no`;
  // Port 0 lets the system choose, so two starts can never collide.
  const forwards = link.guestPorts.map((port) => `,hostfwd=tcp:127.0.0.1:0-${guestNet.ip}:${port}`).join("");
  const { subnet, gateway, dns } = guestNet;
  return `user,id=${netId},ipv6=off,restrict=${link.isOpen ? "off" : "on"},net=${subnet},host=${gateway},dns=${dns}${forwards}`;
}

/** Sizes, memory and start mode of one QEMU process. */
export type Launch = VmSpec & {
  /** The file behind the guest's memory: written to when `sharesMemory`, else mapped copy-on-write. */
  readonly memory: string;
  readonly sharesMemory: boolean;
  readonly kernel: Kernel | undefined;
  /** What it does first: run, wait to be told to, or wait for a saved state as well. */
  readonly begins: "running" | "stopped" | "incoming";
};

/** Processor and devices: the same, in the same order, at boot and at every restore, since saved state is matched to them. */
const hardware = (machine: Machine): string[] => [
  ...["-M", "microvm,rtc=on,memory-backend=ram,suppress-vmdesc=on"],
  ...["-cpu", machine.accelerator === "kvm" ? "host" : "max"],
  // Without it the state file opens with a section that an incoming machine refuses (design fact, measured on QEMU 7.2).
  ...["-global", "migration.send-configuration=off"],
  ...["-device", `virtio-blk-device,drive=${diskId}`],
  // No announcement after a restore: nobody moved, and the guest would tell its neighbours before it serves its first request.
  ...["-device", `virtio-net-device,netdev=${netId},guest_announce=off,mac=02:fc:00:00:00:05`],
  ...["-device", "virtio-rng-device"],
];

/** A digest of the hardware and of what the guest was booted with: state saved under another does not load under this one. */
export function shapeOf(machine: Machine): string {
  // The clock's rate is measured anew at each start of the host, and differs by a hair.
  const shape = [...hardware(machine), bootWords({ ...machine, tscKhz: undefined })];
  return new Bun.CryptoHasher("sha256").update(shape.join("\n")).digest("hex").slice(0, 12);
}

/** QEMU's arguments. */
export function arguments_(machine: Machine, launch: Launch): string[] {
  const accel = machine.accelerator === "tcg" ? `tcg,tb-size=${translationBufferMib}` : "kvm";
  const link = launch.nic.link;
  return [
    ...["-name", launch.name, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-accel", accel],
    ...["-smp", `${launch.vcpus}`, "-m", `${launch.memoryMib}`],
    "-object",
    `memory-backend-file,id=ram,size=${launch.memoryMib}M,mem-path=${launch.memory},share=${launch.sharesMemory ? "on" : "off"}`,
    // No new programs, no new privileges: a guest that breaks out of the emulation finds little to call.
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    // Relative to its folder, where it runs: the whole path may be longer than a socket's can be.
    ...["-qmp", "unix:qmp.sock,server=on,wait=off"],
    // Appended to, so that whoever reads it may cut it off.
    ...["-chardev", `file,id=console,path=${launch.dir}/console.log,append=on`, "-serial", "chardev:console"],
    ...[
      "-drive",
      `id=${diskId},file=${launch.disk.device},if=none,format=${launch.disk.format},cache=writeback,discard=unmap`,
    ],
    ...["-netdev", netdev(link)],
    ...hardware(machine),
    ...(launch.kernel ? ["-kernel", launch.kernel.path, "-append", `${bootWords(machine)} ${guestWords(link)}`] : []),
    ...(launch.kernel?.initrd ? ["-initrd", launch.kernel.initrd] : []),
    ...(launch.begins === "running" ? [] : ["-S"]),
    ...(launch.begins === "incoming" ? ["-incoming", "defer"] : []),
  ];
}
