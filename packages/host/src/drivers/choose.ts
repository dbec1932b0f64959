import { stat } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import type { HostConfig } from "../config.ts";
import { openGround } from "../egress/ground.ts";
import { PolicyTable } from "../egress/policy-table.ts";
import { cpuModel, type Findings, probe, tscKhz } from "../probe.ts";
import { findLimits } from "./cgroups.ts";
import { DmSnapshot } from "./dm/dm-snapshot.ts";
import { Firecracker } from "./firecracker/driver.ts";
import { type Egress, layFloor, nameservers } from "./floor.ts";
import { NetnsTap } from "./netns/netns-tap.ts";
import { vmmGid } from "./owner.ts";
import { type Disks, type Drivers, fitting, type Nets } from "./ports.ts";
import { Qcow2 } from "./qcow2.ts";
import { Qemu } from "./qemu/driver.ts";
import { canReflink, Reflink } from "./reflink.ts";
import { UserMode } from "./user-mode.ts";

/** Network name spaces kept ready beside those of pooled machines: as many creates at once wait for none. */
const readyNetworks = 4;

/** The drivers for this machine. Throws `agent_error` with the remedy when there are none. */
export async function chooseDrivers(config: HostConfig, log: Logger): Promise<Drivers> {
  const findings = await probe(config);
  const needed =
    findings.vmm === "firecracker" ? ["firecracker", "kvm", "device mapper", "taps"] : ["qemu", "qemu-img"];
  const missing = findings.probes.find((one) => !one.ok && needed.includes(one.name));
  if (missing || !findings.accelerator)
    throw new WrennError("agent_error", `this machine cannot run sandboxes: ${missing?.name ?? "qemu"} is missing`, {
      remedy: missing?.remedy,
    });
  const limits = await findLimits(config.dir);
  const chosen =
    findings.vmm === "firecracker" ? await onFirecracker(config, findings, log) : await onQemu(config, findings, log);
  log.info({ limits: limits.detail, disks: chosen.disks.name, network: chosen.nets.name }, "bounds of machines");
  return fitting({ ...chosen, limits });
}

async function onFirecracker(config: HostConfig, { firecracker, jailer, vmmVersion }: Findings, log: Logger) {
  const gid = await vmmGroup("kvm");
  const machine = { binary: firecracker!, jailer, gid };
  log.info({ jailer: jailer ?? "none" }, "firecracker");
  const nets = await NetnsTap.start({ dir: config.dir, gid, ready: readyNetworks }, log);
  return {
    vmm: new Firecracker(machine, vmmVersion, cpuModel(), config.guest),
    disks: await disksFor(config, () => new DmSnapshot()),
    nets,
  };
}

async function onQemu(config: HostConfig, { qemu, qemuImg, accelerator, network, vmmVersion }: Findings, log: Logger) {
  const gid = await vmmGroup(accelerator!);
  const machine = { accelerator: accelerator!, binary: qemu!, tscKhz: await tscKhz(), gid };
  const vmm = new Qemu(machine, vmmVersion, cpuModel());
  const disks = await disksFor(config, () => new Qcow2(qemuImg!));
  return { vmm, disks, nets: await networkFor(config, network, { gid, log }) };
}

async function disksFor({ disks, dir }: HostConfig, usual: () => Disks): Promise<Disks> {
  if (disks !== "reflink") return usual();
  if (await canReflink(dir)) return new Reflink();
  throw new WrennError("invalid_request", `files in ${dir} cannot share blocks, which WRENN_DISKS=reflink asks for`, {
    remedy: "Put the data folder on XFS (made with reflink=1, the default) or btrfs.",
  });
}

type Context = { readonly gid: number; readonly log: Logger };

async function networkFor(config: HostConfig, network: Findings["network"], { gid, log }: Context): Promise<Nets> {
  if (network === "netns-tap") return NetnsTap.start({ dir: config.dir, gid, ready: readyNetworks }, log);
  const egress = await layFloor(config.egress, log);
  log.info({ egress: egress.detail }, "network");
  return new UserMode(egress, await keepPolicies(config, egress, log));
}

/** What guests' policies are held with; none where the firewall is not this agent's, or nothing gets out anyway. */
async function keepPolicies({ dir }: HostConfig, { isOpen, hasFirewall }: Egress, log: Logger) {
  if (!isOpen || !hasFirewall) return undefined;
  const servers = await nameservers();
  return { table: await PolicyTable.open(dir, servers), ground: await openGround(dir, servers, log) };
}

async function vmmGroup(accelerator: string): Promise<number> {
  return accelerator === "kvm" ? (await stat("/dev/kvm")).gid : vmmGid;
}
