import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { newSandboxId, type SandboxId } from "@wrenn/contract";
import pino from "pino";
import { Admission } from "../../src/admission.ts";
import { compile } from "../../src/config.ts";
import { FakeWorld, fakeImage } from "../../src/drivers/fake.ts";
import type { Drivers } from "../../src/drivers/ports.ts";
import { Vault } from "../../src/egress/vault.ts";
import { heal } from "../../src/heal.ts";
import { Holds } from "../../src/holds.ts";
import { Journal } from "../../src/journal.ts";
import { Layers } from "../../src/layers.ts";
import { type Keys, Moves } from "../../src/move/moves.ts";
import { Nursery } from "../../src/nursery.ts";
import { Paths } from "../../src/paths.ts";
import { Pool } from "../../src/pool.ts";
import type { SandboxSpec } from "../../src/record.ts";
import { Sandboxes } from "../../src/sandboxes.ts";
import { openStore } from "../../src/store/open.ts";
import { Templates } from "../../src/templates.ts";
import { Turns } from "../../src/turns.ts";
import { Mounts } from "../../src/volumes/mounts.ts";
import { Volumes } from "../../src/volumes/volumes.ts";

export const quiet = pino({ level: "silent" });

export const spec = (changes: Partial<SandboxSpec> = {}): SandboxSpec => ({
  ...{
    template: "minimal",
    vcpus: 1,
    memoryMib: 128,
    diskMib: 1,
    timeoutSec: 0,
    timeoutAction: "pause",
    envs: {},
    teamId: "t",
  },
  ...changes,
});

/** A host on fake machines in a folder of its own. `restart` ends the agent as `kill -9` does and starts the next. */
export class FakeHost implements AsyncDisposable {
  readonly world = new FakeWorld();
  sandboxes!: Sandboxes;
  pool!: Pool;
  volumes!: Volumes;
  #journal!: Journal;
  #available: () => number = () => 1 << 20;

  private constructor(
    readonly dir: string,
    readonly poolSize: number,
  ) {}

  /** The way of its sandboxes to an object store and back. */
  moves(store: string, env: Record<string, string> = {}): Moves {
    return new Moves(this.sandboxes, openStore(store, env), quiet);
  }

  static async start(poolSize = 0): Promise<FakeHost> {
    const host = new FakeHost(await mkdtemp(`${tmpdir()}/wrenn-host-`), poolSize);
    await fakeImage(host.dir, "minimal");
    await host.#boot();
    return host;
  }

  async restart(): Promise<void> {
    await this.sandboxes[Symbol.asyncDispose]();
    this.#journal[Symbol.dispose]();
    await this.#boot();
  }

  /** What the host has of memory from now on, MiB. */
  setAvailable(available: () => number): void {
    this.#available = available;
  }

  create(changes: Partial<SandboxSpec> = {}, id: SandboxId = newSandboxId()) {
    return this.sandboxes.create(id, 1, spec(changes));
  }

  /** A path of the guest, reached as the proxy reaches it. */
  async guest(id: SandboxId, path: string, init?: RequestInit): Promise<Response> {
    const { nic } = this.sandboxes.find(id).machine;
    return fetch(`http://${nic.reach(49983)}${path}`, { ...init, keepalive: false });
  }

  /** Everything that a sandbox could leave behind. */
  async leftovers(): Promise<Record<string, number>> {
    const { sandboxes, snapshots, layers } = this.#journal;
    const rows = sandboxes.all().length + snapshots.all().length + layers.all().length;
    const count = async (folder: string) => (await readdir(`${this.dir}/${folder}`)).length;
    const files = {
      homes: await count("sandboxes"),
      snapshots: await count("snapshots"),
      layers: await count("layers"),
      bases: await count("bases"),
    };
    return { machines: this.world.machines.size, rows, ...files };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandboxes[Symbol.asyncDispose]();
    this.#journal[Symbol.dispose]();
    for (const pid of this.world.machines.keys()) await this.world.kill(pid);
    await rm(this.dir, { recursive: true, force: true });
  }

  async #boot(): Promise<void> {
    const config = compile({ dir: this.dir, token: "0123456789abcdef", readyTimeoutMs: 5_000, patienceMs: 100 });
    const drivers: Drivers = { vmm: this.world.vmm, disks: this.world.disks, nets: this.world.nets };
    this.#journal = new Journal(`${this.dir}/agent.db`);
    const templates = new Templates(config, drivers, quiet);
    const paths = new Paths(this.dir, drivers.disks.extension);
    const layers = new Layers(drivers.disks, templates, this.#journal, paths);
    const starts = new Turns(4);
    this.volumes = new Volumes(`${this.dir}/volumes`);
    this.pool = new Pool({ drivers, paths, layers, starts }, this.poolSize, config.readyTimeoutMs, quiet);
    const kitchen = {
      drivers,
      templates,
      layers,
      journal: this.#journal,
      paths,
      pool: this.pool,
      nursery: new Nursery({ drivers, templates, layers, paths, starts }, quiet),
      holds: new Holds(),
      vault: new Vault(config.token),
      mounts: new Mounts(this.volumes, `${this.dir}/kernels`, quiet),
      starts,
    };
    this.sandboxes = new Sandboxes(kitchen, quiet, new Admission(this.dir, () => this.#available()));
    await heal(this.sandboxes, quiet);
  }
}

/** What opens the store for a team. */
export const keysFor = (team: number): Keys => ({
  team: { name: `team${team}`, key: new Uint8Array(32).fill(team) },
  common: { name: "common", key: new Uint8Array(32).fill(255) },
});

export const nothing = { machines: 0, rows: 0, homes: 0, snapshots: 0, layers: 0, bases: 0 };

/** Waits until `holds`, as long as the test runs. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries > 10_000) throw new Error(`waited for: ${what}`);
    await Bun.sleep(1);
  }
}
