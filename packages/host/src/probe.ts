import { existsSync } from "node:fs";
import { access, constants, readFile } from "node:fs/promises";
import { cpus } from "node:os";
import type { HostConfig } from "./config.ts";
import { missingCommands } from "./drivers/netns/commands.ts";
import type { Kernel } from "./drivers/ports.ts";
import { mayChangeHost } from "./drivers/privileges.ts";
import { listImages, newestKernel } from "./images.ts";

/** One thing this machine has or lacks. */
export type Probe = { readonly name: string; readonly ok: boolean; readonly detail: string; readonly remedy?: string };

/** What was found, and what runs the sandboxes for that reason. */
export type Findings = {
  readonly probes: readonly Probe[];
  readonly vmm: "qemu" | "firecracker" | undefined;
  readonly accelerator: "kvm" | "tcg" | undefined;
  readonly disk: "qcow2" | "dm-snapshot" | undefined;
  readonly network: "user-mode" | "netns-tap" | undefined;
  /** Version of the VMM, such as `7.2.22`. */
  readonly vmmVersion: string;
  readonly qemu: string | undefined;
  readonly qemuImg: string | undefined;
  readonly firecracker: string | undefined;
  readonly jailer: string | undefined;
};

/**
 * A kernel without a disk panics and reboots within a second under KVM, and within 15 s under KVM that is emulated
 * itself; a machine that cannot run it never gets there.
 */
const kvmProbeTimeoutMs = 30_000;

type Asked = Pick<HostConfig, "dir" | "accelerator" | "vmm" | "network" | "isUnjailed">;

/** Looks at this machine. Starts a tiny VM where `/dev/kvm` exists, since the device alone proves nothing. */
export async function probe(config: Asked): Promise<Findings> {
  const qemu = Bun.which("qemu-system-x86_64") ?? undefined;
  const qemuImg = Bun.which("qemu-img") ?? undefined;
  const version = qemu ? await versionOf(qemu) : "";
  const kernel = await newestKernel(config.dir).catch(() => undefined);
  const images = await listImages(config.dir);
  const kvm = config.accelerator === "tcg" ? skipped("not asked for") : await probeKvm(qemu, kernel);
  const production = await probeProduction(config, kvm.ok);
  const install = "Install it: `apt-get install qemu-system-x86 qemu-utils`.";
  const probes: Probe[] = [
    found("qemu", qemu, `${qemu} ${version}`, install),
    found("qemu-img", qemuImg, qemuImg ?? "", install),
    kvm,
    ...production.probes,
    found("kernel", kernel, kernel?.path ?? "", `Run \`make images\`: there is none in ${config.dir}/kernels.`),
    found(
      "templates",
      images.length > 0,
      images.map((image) => image.name).join(", "),
      `Run \`make images\`: there are none in ${config.dir}/images.`,
    ),
    await writable(config.dir),
  ];
  const { firecracker, jailer } = production;
  const chosen = config.vmm ?? (production.isComplete ? "firecracker" : qemu ? "qemu" : undefined);
  if (chosen === "firecracker")
    return {
      ...{ probes, vmm: chosen, accelerator: "kvm", disk: "dm-snapshot", network: "netns-tap" },
      ...{ vmmVersion: firecracker ? await versionOf(firecracker) : "", qemu, qemuImg, firecracker, jailer },
    };
  return {
    ...{ probes, vmm: chosen, accelerator: config.accelerator ?? (qemu ? (kvm.ok ? "kvm" : "tcg") : undefined) },
    ...{ disk: qemuImg ? "qcow2" : undefined, network: qemu ? (config.network ?? "user-mode") : undefined },
    ...{ vmmVersion: version, qemu, qemuImg, firecracker, jailer },
  };
}

type Production = {
  readonly probes: readonly Probe[];
  readonly isComplete: boolean;
  readonly firecracker: string | undefined;
  readonly jailer: string | undefined;
};

/** What Firecracker needs beside KVM: root, device mapper, taps. Where all of it is there, it runs the sandboxes. */
async function probeProduction(config: Asked, hasKvm: boolean): Promise<Production> {
  const firecracker = Bun.which(process.env.FIRECRACKER_BIN ?? "firecracker") ?? undefined;
  const jailer = config.isUnjailed ? undefined : (Bun.which(process.env.JAILER_BIN ?? "jailer") ?? undefined);
  const isPrivileged = mayChangeHost();
  const lacking = missingCommands();
  const hasTaps = isPrivileged && lacking.length === 0 && existsSync("/dev/net/tun");
  const hasMapper = isPrivileged && existsSync("/dev/mapper/control") && existsSync("/dev/loop-control");
  const prepare = "Run `scripts/prepare-host` as root.";
  // No fault of a machine that runs QEMU, so no remedy there: only what it would take.
  const wanted = (name: string, what: unknown, detail: string, advice: string): Probe =>
    what || config.vmm === "firecracker"
      ? found(name, what, detail, advice)
      : { name, ok: false, detail: `not there, and needed for Firecracker only. ${advice}` };
  const jailed = jailer ? `, jailed by ${jailer}` : ", without a jailer";
  return {
    ...{ firecracker, jailer, isComplete: hasKvm && !!firecracker && hasTaps && hasMapper },
    probes: [
      wanted("firecracker", firecracker, `${firecracker}${jailed}`, "Install Firecracker's release to /usr/local/bin."),
      wanted("device mapper", hasMapper, "/dev/mapper/control", prepare),
      wanted("taps", hasTaps, "/dev/net/tun, ip, nft, tc, nsenter", lacking.length > 0 ? installs(lacking) : prepare),
    ],
  };
}

const installs = (commands: readonly string[]): string =>
  `Missing: ${commands.join(", ")}. Install them: \`apt-get install iproute2 nftables util-linux\`.`;

/** Rate of this machine's time-stamp counter, kHz, as the processor's name or its present clock says. */
export async function tscKhz(): Promise<number | undefined> {
  const info = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  const mhz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(info)?.[1];
  return mhz ? Math.round(Number(mhz) * 1000) : undefined;
}

/** The processor's name, for templates that hold choices made for it. */
export const cpuModel = (): string => cpus()[0]?.model ?? "unknown";

async function probeKvm(qemu: string | undefined, kernel: Kernel | undefined): Promise<Probe> {
  const unusable = (detail: string, remedy: string): Probe => ({ name: "kvm", ok: false, detail, remedy });
  const emulated =
    "Sandboxes are emulated: everything works, slower. For full speed use a machine with nested virtualisation on.";
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (thrown) {
    const absent = (thrown as NodeJS.ErrnoException).code === "ENOENT";
    return absent
      ? unusable("/dev/kvm does not exist", emulated)
      : unusable(
          "/dev/kvm may not be opened",
          "Add yourself to the group kvm: `sudo usermod -aG kvm $USER`, then log in again.",
        );
  }
  if (!qemu || !kernel)
    return unusable("/dev/kvm exists; not tried: QEMU or a guest kernel is missing", "Run `make images`.");
  const child = Bun.spawn([qemu, ...tinyVm(kernel)], {
    stdio: ["ignore", "ignore", "pipe"],
    timeout: kvmProbeTimeoutMs,
  });
  const said = (await new Response(child.stderr).text()).trim().split("\n")[0] ?? "";
  if ((await child.exited) === 0) return { name: "kvm", ok: true, detail: "/dev/kvm runs a guest" };
  const how = child.signalCode === "SIGTERM" ? "the guest did not get anywhere" : said;
  return unusable(`/dev/kvm exists, but a guest does not run on it: ${how}`, emulated);
}

/** A machine without a disk: its kernel finds no root, panics and, told so, reboots, which ends QEMU with status 0. */
const tinyVm = (kernel: Kernel): string[] => [
  ...[
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-M",
    "microvm",
    "-accel",
    "kvm",
    "-cpu",
    "host",
  ],
  ...["-m", "256", "-kernel", kernel.path, "-append", "quiet loglevel=0 reboot=t panic=-1"],
];

async function versionOf(program: string): Promise<string> {
  const said = await new Response(Bun.spawn([program, "--version"], { stderr: "ignore" }).stdout).text();
  return /(?:version |v)([\d.]+)/.exec(said)?.[1] ?? "unknown";
}

async function writable(dir: string): Promise<Probe> {
  const test = `${dir}/.probe-${process.pid}`;
  try {
    await Bun.write(test, "");
    await Bun.file(test).delete();
    return { name: "data folder", ok: true, detail: dir };
  } catch (thrown) {
    const detail = `${dir}: ${(thrown as Error).message}`;
    return {
      name: "data folder",
      ok: false,
      detail,
      remedy: "Name a folder you can write to with WRENN_DIR or --dir.",
    };
  }
}

const skipped = (detail: string): Probe => ({ name: "kvm", ok: false, detail });

const found = (name: string, what: unknown, detail: string, remedy: string): Probe =>
  what ? { name, ok: true, detail } : { name, ok: false, detail: "not found", remedy };
