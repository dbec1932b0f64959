import { mkdir } from "node:fs/promises";
import type { Logger } from "pino";
import { type Credentials, compile, type HostOptions, machineSize } from "./config.ts";
import { DiskWatch } from "./disk-watch.ts";
import { chooseDrivers } from "./drivers/choose.ts";
import type { Drivers } from "./drivers/ports.ts";
import { Vault } from "./egress/vault.ts";
import { heal, neededTemplates } from "./heal.ts";
import { Holds } from "./holds.ts";
import { watchImages } from "./image-watch.ts";
import { Journal } from "./journal.ts";
import { Layers } from "./layers.ts";
import { Scribe } from "./logs/scribe.ts";
import { Metrics } from "./metrics/exposition.ts";
import { Sampler } from "./metrics/sampler.ts";
import { Moves } from "./move/moves.ts";
import { Nursery } from "./nursery.ts";
import { Paths } from "./paths.ts";
import { Pool } from "./pool.ts";
import { Sandboxes } from "./sandboxes.ts";
import { serve } from "./server.ts";
import { defaults } from "./service.ts";
import { openStore } from "./store/open.ts";
import { Templates } from "./templates.ts";
import { Turns } from "./turns.ts";
import { Mounts } from "./volumes/mounts.ts";
import { Volumes } from "./volumes/volumes.ts";

/** A start waits for files and sockets now and then; a second one uses its processor meanwhile. */
const startsPerCore = 2;

/** How often images that nobody uses any more are looked for. */
const tidyMs = 3_600_000;

export { chooseDrivers } from "./drivers/choose.ts";

/** A host agent that serves. */
export type HostAgent = {
  /** `http://HOST:PORT`, `https` for a host of a fleet. */
  readonly address: string;
  /** Shows a renewed certificate from the next connection on; those there are go on. */
  renew(credentials: Credentials): void;
  /** Stops serving; with `pause`, every running sandbox is paused first, otherwise their VMs run on and are adopted by the next start. */
  stop(how: { pause: boolean }): Promise<void>;
};

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
  const nursery = new Nursery({ drivers, templates, layers, paths, starts }, log);
  const volumes = new Volumes(`${config.dir}/volumes`);
  await volumes.heal();
  const mounts = new Mounts(volumes, `${config.dir}/kernels`, log);
  const vault = new Vault(config.token);
  const sandboxes = new Sandboxes(
    { drivers, templates, layers, journal, paths, pool, nursery, holds: new Holds(), starts, vault, mounts },
    log,
  );
  await heal(sandboxes, log);
  const sampler = await Sampler.start(sandboxes, log);
  const scribe = await Scribe.start(sandboxes, log);
  const diskWatch = new DiskWatch(sandboxes, log);
  const metrics = new Metrics({ sandboxes, pool, machineSize });
  const moves = new Moves(sandboxes, openStore(config.store, process.env), log, sampler);
  const served = { sandboxes, sampler, scribe, metrics, moves, volumes };
  let server = serve(config, served, log);
  const { port } = server;
  const images = await watchImages(config.dir, () => templates.prepare(defaults), log);
  const tidying = setInterval(() => {
    const tidied = templates.tidy(() => neededTemplates(journal));
    tidied.catch((error) => log.warn({ error }, "images that nobody uses were not removed"));
  }, tidyMs);
  return {
    address: `${config.credentials ? "https" : "http"}://${config.hostname}:${port}`,
    renew: (credentials) => {
      const old = server;
      server = serve({ ...config, port: port!, credentials }, served, log);
      void old.stop();
    },
    stop: async ({ pause }) => {
      clearInterval(tidying);
      images.close();
      await server.stop(true);
      await diskWatch[Symbol.asyncDispose]();
      if (pause) await sandboxes.pauseAll("the host agent was stopped", config.drainSeconds * 1000);
      await moves[Symbol.asyncDispose]();
      await sampler[Symbol.asyncDispose]();
      await scribe[Symbol.asyncDispose]();
      await nursery[Symbol.asyncDispose]();
      await pool[Symbol.asyncDispose]();
      await templates[Symbol.asyncDispose]();
      await images.settled();
      await sandboxes[Symbol.asyncDispose]();
      await drivers.limits?.[Symbol.asyncDispose]();
      await drivers.nets[Symbol.asyncDispose]?.();
      journal[Symbol.dispose]();
    },
  };
}
