import { mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { agentPort, headers, newSandboxId, processes, type SandboxId } from "@wrenn/contract";
import { compile } from "../../packages/host/src/config.ts";
import { unlimited } from "../../packages/host/src/drivers/cgroups.ts";
import type { Drivers, Nic } from "../../packages/host/src/drivers/ports.ts";
import { Vault } from "../../packages/host/src/egress/vault.ts";
import { heal } from "../../packages/host/src/heal.ts";
import { Holds } from "../../packages/host/src/holds.ts";
import { Journal } from "../../packages/host/src/journal.ts";
import { Layers } from "../../packages/host/src/layers.ts";
import { Moves } from "../../packages/host/src/move/moves.ts";
import { Nursery } from "../../packages/host/src/nursery.ts";
import { Paths } from "../../packages/host/src/paths.ts";
import { Pool } from "../../packages/host/src/pool.ts";
import type { SandboxSpec } from "../../packages/host/src/record.ts";
import { Sandboxes } from "../../packages/host/src/sandboxes.ts";
import { openStore } from "../../packages/host/src/store/open.ts";
import { Templates } from "../../packages/host/src/templates.ts";
import { Turns } from "../../packages/host/src/turns.ts";
import { Mounts } from "../../packages/host/src/volumes/mounts.ts";
import { Volumes } from "../../packages/host/src/volumes/volumes.ts";
import { quiet, spec } from "../../packages/host/test/support/host.ts";
import { copyTemplates } from "../../test/support/data-folder.ts";
import { wrennDir } from "./bench.ts";

/** Boots of guests on KVM that is emulated itself, on a machine that does other things too. */
const readyTimeoutMs = 400_000;

/** Called before each effect of a driver with its name, such as `vmm.restore`; what it throws, the effect throws. */
export type Before = (effect: string) => void | Promise<void>;

/** A host on real drivers, in a folder of its own. `restart` ends the agent as `kill -9` does and starts the next. */
export class RealHost implements AsyncDisposable {
  before: Before = () => {};
  sandboxes!: Sandboxes;
  templates!: Templates;
  drivers!: Drivers;
  pool!: Pool;
  volumes!: Volumes;
  #journal!: Journal;

  private constructor(
    readonly dir: string,
    readonly makeDrivers: () => Promise<Drivers>,
    readonly poolSize: number,
  ) {}

  /** `root` is where kernels and images are, and what the host has of its own is kept beside them. */
  static async start(
    makeDrivers: () => Promise<Drivers>,
    { poolSize = 0, root = wrennDir }: { poolSize?: number; root?: string } = {},
  ): Promise<RealHost> {
    await mkdir(`${root}/tests`, { recursive: true, mode: 0o755 });
    const dir = await mkdtemp(`${root}/tests/host-`);
    await Bun.$`chmod 755 ${dir}`;
    for (const shared of ["kernels", "images"]) await symlink(`${root}/${shared}`, `${dir}/${shared}`);
    await mkdir(`${dir}/templates`, { mode: 0o755 });
    await copyTemplates(root, dir); // what hosts of other test files have frozen
    const host = new RealHost(dir, makeDrivers, poolSize);
    await host.#boot();
    return host;
  }

  /** The next agent of a host that `start` made, in another process than its first. */
  static async in(dir: string, makeDrivers: () => Promise<Drivers>): Promise<RealHost> {
    const host = new RealHost(dir, makeDrivers, 0);
    await host.#boot();
    return host;
  }

  /** The agent ends without a word, and the next one starts. What this process holds open stays open. */
  async restart(): Promise<void> {
    await this.sandboxes[Symbol.asyncDispose]();
    this.#journal[Symbol.dispose]();
    await this.#boot();
  }

  /** Does something while this agent, which has no sandbox, is away; then the next one starts. */
  async without<T>(act: () => Promise<T>): Promise<T> {
    await this.sandboxes[Symbol.asyncDispose]();
    await this.drivers.nets[Symbol.asyncDispose]?.();
    this.#journal[Symbol.dispose]();
    try {
      return await act();
    } finally {
      await this.#boot();
    }
  }

  /**
   * An agent in a process of its own does a recipe and is killed before its effect number `step`, whose name this gives;
   * `undefined` when the recipe has fewer. Afterwards the next agent has started here.
   */
  async killedAt(networks: string, recipe: string, step: number): Promise<string | undefined> {
    const argv = ["bun", `${import.meta.dir}/doomed.ts`, this.dir, networks, recipe, `${step}`];
    return this.without(async () => {
      const child = Bun.spawn(argv, { stdio: ["ignore", "pipe", "inherit"] });
      const effect = await new Response(child.stdout).text();
      await child.exited;
      if (child.signalCode === "SIGKILL") return effect;
      if (child.exitCode === 0) return undefined;
      throw new Error(`the agent of ${recipe} ended by itself (${child.exitCode})`);
    });
  }

  create(changes: Partial<SandboxSpec> = {}, id: SandboxId = newSandboxId()) {
    return this.sandboxes.create(id, 1, spec({ memoryMib: 256, ...changes }));
  }

  /** The way of its sandboxes to an object store, which is a folder, and back. */
  moves(store: string): Moves {
    return new Moves(this.sandboxes, openStore(store, {}), quiet);
  }

  /** Runs a shell script in the guest as root. */
  sh(id: SandboxId, script: string): Promise<{ code: number; out: string }> {
    const { machine, record } = this.sandboxes.find(id);
    return shell(machine.nic, script, record.token);
  }

  /** Files and rows that a sandbox could leave behind. */
  async leftovers(): Promise<{ rows: number; homes: number; snapshots: number; layers: number }> {
    const { sandboxes, snapshots, layers } = this.#journal;
    const count = async (folder: string) => (await readdir(`${this.dir}/${folder}`)).length;
    return {
      rows: sandboxes.all().length + snapshots.all().length + layers.all().length,
      ...{ homes: await count("sandboxes"), snapshots: await count("snapshots"), layers: await count("layers") },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.before = () => {};
    for (const { id } of this.sandboxes.list()) await this.sandboxes.destroy(id);
    for (const { id } of this.#journal.snapshots.all()) await this.sandboxes.deleteSnapshot(id);
    await this.pool[Symbol.asyncDispose]();
    await this.templates[Symbol.asyncDispose]();
    await this.sandboxes[Symbol.asyncDispose]();
    await this.drivers.nets[Symbol.asyncDispose]?.();
    this.#journal[Symbol.dispose]();
    await mkdir(`${this.dir}/../../templates`, { recursive: true, mode: 0o755 });
    await copyTemplates(this.dir, `${this.dir}/../..`);
    await rm(this.dir, { recursive: true, force: true });
  }

  async #boot(): Promise<void> {
    const config = compile({ dir: this.dir, token: "0123456789abcdef", readyTimeoutMs });
    this.drivers = {
      limits: unlimited("not here"),
      ...watched(await this.makeDrivers(), (effect) => this.before(effect)),
    };
    const { drivers } = this;
    this.#journal = new Journal(`${this.dir}/agent.db`);
    this.templates = new Templates(config, drivers, quiet);
    const paths = new Paths(this.dir, drivers.disks.extension);
    const layers = new Layers(drivers.disks, this.templates, this.#journal, paths);
    const starts = new Turns(2);
    this.volumes = new Volumes(`${this.dir}/volumes`);
    this.pool = new Pool({ drivers, paths, layers, starts }, this.poolSize, config.readyTimeoutMs, quiet);
    const { templates, pool } = this;
    const kitchen = {
      drivers,
      templates,
      layers,
      journal: this.#journal,
      paths,
      pool,
      nursery: new Nursery({ drivers, templates, layers, paths, starts }, quiet),
      starts,
      holds: new Holds(),
      vault: new Vault("lab"),
      mounts: new Mounts(this.volumes, `${this.dir}/kernels`, quiet),
    };
    this.sandboxes = new Sandboxes(kitchen, quiet);
    await heal(this.sandboxes, quiet);
  }
}

/** Runs a shell script in the guest behind `nic` as root; one that has an identity asks for its token. */
export async function shell(nic: Nic, script: string, token = ""): Promise<{ code: number; out: string }> {
  const unpooled = ((input: RequestInfo | URL, init?: RequestInit) =>
    fetch(input, { ...init, keepalive: false })) as typeof fetch;
  const baseUrl = `http://${nic.reach(agentPort)}`;
  const client = createClient(processes.Process, createConnectTransport({ baseUrl, fetch: unpooled }));
  const request = { process: { cmd: "/bin/bash", args: ["-c", script], envs: {}, cwd: "/" }, stdin: false };
  const asRoot = { Authorization: `Basic ${btoa("root:")}`, [headers.accessToken]: token };
  let [code, out] = [-1, ""];
  for await (const { event } of client.start(request, { headers: asRoot })) {
    if (event?.event.case === "end") code = event.event.value.exitCode;
    const data = event?.event.case === "data" ? event.event.value.output : undefined;
    if (data?.case === "stdout" || data?.case === "stderr") out += new TextDecoder().decode(data.value);
  }
  return { code, out };
}

const effects: Record<string, readonly string[]> = {
  disks: ["create", "open", "flatten"],
  nets: ["attach"],
  vmm: ["boot", "freeze", "restore"],
  vm: ["stop", "cont", "capture", "switchDisk"],
};

/** The drivers, with a look before each effect that they and their machines have on the world. */
function watched({ vmm, disks, nets }: Drivers, before: Before): Drivers {
  return { vmm: watch("vmm", vmm, before), disks: watch("disks", disks, before), nets: watch("nets", nets, before) };
}

function watch<T extends object>(kind: string, target: T, before: Before): T {
  return new Proxy(target, {
    get(_, name) {
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== "function") return value;
      if (!effects[kind]!.includes(String(name))) return value.bind(target);
      return async (...args: unknown[]) => {
        await before(`${kind}.${String(name)}`);
        const result = await value.apply(target, args);
        return String(name) === "restore" ? watch("vm", result as object, before) : result;
      };
    },
  });
}
