import { mkdir, stat } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { type Credentials, compile, type HostConfig, type HostOptions, machineSize } from "./config.ts";
import { findLimits } from "./drivers/cgroups.ts";
import { layFloor } from "./drivers/floor.ts";
import { vmmGid } from "./drivers/owner.ts";
import { type Drivers, fitting } from "./drivers/ports.ts";
import { Qcow2 } from "./drivers/qcow2.ts";
import { Qemu } from "./drivers/qemu/driver.ts";
import { UserMode } from "./drivers/user-mode.ts";
import { heal } from "./heal.ts";
import { Holds } from "./holds.ts";
import { Journal } from "./journal.ts";
import { Layers } from "./layers.ts";
import { Scribe } from "./logs/scribe.ts";
import { Metrics } from "./metrics/exposition.ts";
import { Sampler } from "./metrics/sampler.ts";
import { Paths } from "./paths.ts";
import { Pool } from "./pool.ts";
import { cpuModel, probe, tscKhz } from "./probe.ts";
import { Sandboxes } from "./sandboxes.ts";
import { serve } from "./server.ts";
import { defaults } from "./service.ts";
import { Templates } from "./templates.ts";
import { Turns } from "./turns.ts";

/** A start waits for files and sockets now and then; a second one uses its processor meanwhile. */
const startsPerCore = 2;

/** A host agent that serves. */
export type HostAgent = {
  /** `http://HOST:PORT`, `https` for a host of a fleet. */
  readonly address: string;
  /** Shows a renewed certificate from the next connection on; those there are go on. */
  renew(credentials: Credentials): void;
  /** Stops serving; with `pause`, every running sandbox is paused first, otherwise their VMs run on and are adopted by the next start. */
  stop(how: { pause: boolean }): Promise<void>;
};

/** The drivers for this machine. Throws `agent_error` with the remedy when there are none. */
export async function chooseDrivers(config: HostConfig, log: Logger): Promise<Drivers> {
  const findings = await probe(config);
  const missing = findings.probes.find((one) => !one.ok && (one.name === "qemu" || one.name === "qemu-img"));
  if (missing || !findings.qemu || !findings.qemuImg || !findings.accelerator)
    throw new WrennError("agent_error", `this machine cannot run sandboxes: ${missing?.name ?? "qemu"} is missing`, {
      remedy: missing?.remedy,
    });
  const machine = {
    accelerator: findings.accelerator,
    binary: findings.qemu,
    tscKhz: await tscKhz(),
    gid: await vmmGroup(findings.accelerator),
  };
  const vmm = new Qemu(machine, findings.vmmVersion, cpuModel());
  const egress = await layFloor(config.egress, log);
  const limits = await findLimits(config.dir);
  log.info({ egress: egress.detail, limits: limits.detail }, "bounds of machines");
  return fitting({ vmm, disks: new Qcow2(findings.qemuImg), nets: new UserMode(egress.isOpen), limits });
}

async function vmmGroup(accelerator: string): Promise<number> {
  return accelerator === "kvm" ? (await stat("/dev/kvm")).gid : vmmGid;
}

/** Starts a host agent: heals what a former one left, then serves. */
export async function start(options: HostOptions, log: Logger, given?: Drivers): Promise<HostAgent> {
  const config = compile(options);
  await mkdir(config.dir, { recursive: true });
  const drivers = given ?? (await chooseDrivers(config, log));
  log.info({ vmm: drivers.vmm.name, accelerator: drivers.vmm.accelerator, version: drivers.vmm.version }, "drivers");
  const journal = new Journal(`${config.dir}/agent.db`);
  const templates = new Templates(config, drivers, log);
  const paths = new Paths(config.dir, drivers.disks.extension);
  const layers = new Layers(drivers.disks, templates, journal, paths);
  const starts = new Turns(startsPerCore * machineSize().cpuCores);
  const pool = new Pool({ drivers, paths, layers, starts }, config.poolSize, config.readyTimeoutMs, log);
  const sandboxes = new Sandboxes(
    { drivers, templates, layers, journal, paths, pool, holds: new Holds(), starts },
    log,
  );
  await heal(sandboxes, log);
  const sampler = await Sampler.start(sandboxes, log);
  const scribe = await Scribe.start(sandboxes, log);
  const metrics = new Metrics({ sandboxes, pool, machineSize });
  const served = { sandboxes, sampler, scribe, metrics };
  let server = serve(config, served, log);
  const { port } = server;
  const preparing = templates.prepare(defaults);
  return {
    address: `${config.credentials ? "https" : "http"}://${config.hostname}:${port}`,
    renew: (credentials) => {
      const old = server;
      server = serve({ ...config, port: port!, credentials }, served, log);
      void old.stop();
    },
    stop: async ({ pause }) => {
      await server.stop(true);
      if (pause) await sandboxes.pauseAll("the host agent was stopped");
      await sampler[Symbol.asyncDispose]();
      await scribe[Symbol.asyncDispose]();
      await pool[Symbol.asyncDispose]();
      await templates[Symbol.asyncDispose]();
      await preparing;
      await sandboxes[Symbol.asyncDispose]();
      await drivers.limits?.[Symbol.asyncDispose]();
      journal[Symbol.dispose]();
    },
  };
}
