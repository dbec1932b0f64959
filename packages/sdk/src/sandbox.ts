import { type rest, WrennError } from "@wrenn/contract";
import type { Agent } from "./agent.ts";
import type { CallOptions } from "./api.ts";
import { Wrenn } from "./client.ts";
import { Commands } from "./commands.ts";
import type { WrennOptions } from "./config.ts";
import { Files } from "./files.ts";
import {
  change,
  diskOnlyBody,
  lifecycle,
  type PauseOptions,
  pathOf,
  pausing,
  type ResumeOptions,
  type SandboxInfo,
  sandboxInfo,
  seconds,
  settle,
} from "./lifecycle.ts";
import { followLog, type LogEntry, type LogOptions, readLog } from "./logs.ts";
import { followMetrics, type MetricPoint, type MetricsOptions, metricPoint } from "./metrics.ts";
import { followNetwork, type NetworkInfo, type NetworkPolicy, networkBody, networkInfo } from "./network.ts";
import { type OpenPortOptions, openPortBody, type PortAccess, portAccess } from "./ports.ts";
import { Pty } from "./pty.ts";
import type { FollowOptions } from "./server-events.ts";
import { type CheckpointOptions, type SnapshotInfo, snapshotInfo } from "./snapshots.ts";
import { mountsBody } from "./volumes.ts";

/** Which server to talk to: a client, or what one is made from. */
export type ConnectionOptions = WrennOptions & CallOptions & { client?: Wrenn | undefined };

/** What a new sandbox is made of. */
export type CreateOptions = ConnectionOptions & {
  /** One that no other living sandbox of the team has. */
  name?: string | undefined;
  /** Template it starts from; default `base`. */
  template?: string | undefined;
  /** Milliseconds without activity until `timeoutAction`; rounded up to seconds; default 0, never. */
  timeoutMs?: number | undefined;
  /** What happens after `timeoutMs`; default `pause`. */
  timeoutAction?: "pause" | "kill" | undefined;
  /** Environment of every command. */
  envs?: Record<string, string> | undefined;
  /** Labels, returned by `info()` and `list()`. */
  metadata?: Record<string, string> | undefined;
  vcpus?: number | undefined;
  memoryMiB?: number | undefined;
  diskMiB?: number | undefined;
  /** What it may reach; default whatever its host allows. */
  network?: NetworkPolicy | undefined;
  /** Names of volumes that it mounts, by the absolute path at which its programs find them. */
  volumes?: Readonly<Record<string, string>> | undefined;
};

/** What the copies that `fork` makes shall be. */
export type ForkOptions = CallOptions & {
  /** How many, 1 to 100; default 1. */
  count?: number | undefined;
  /** As for create; default: as the sandbox's own, and so are the labels. */
  timeoutMs?: number | undefined;
  /** Environment of every command of the copies, beside what the sandbox has. */
  envs?: Record<string, string> | undefined;
  metadata?: Record<string, string> | undefined;
};

/**
 * A virtual machine with its own kernel, for code nobody has to trust.
 *
 * @example
 * ```ts
 * import { Sandbox } from "wrenn";
 *
 * await using sandbox = await Sandbox.create({ template: "base" });
 * const { stdout } = await sandbox.commands.run("python3 -c 'print(6 * 7)'");
 * ```
 */
export class Sandbox implements AsyncDisposable {
  /** Its id, `cl-` and 25 characters. */
  readonly id: string;
  readonly client: Wrenn;
  readonly commands: Commands;
  readonly files: Files;
  readonly pty: Pty;

  private constructor(client: Wrenn, id: string, agent: Agent) {
    this.id = id;
    this.client = client;
    this.commands = new Commands(agent);
    this.files = new Files(agent);
    this.pty = new Pty(agent);
  }

  /** Starts a sandbox; resolves when it takes commands. One that cannot be handed over is removed again. */
  static async create(options: CreateOptions = {}): Promise<Sandbox> {
    const client = clientOf(options);
    const call = lifecycle(options);
    const body: rest.CreateCapsuleInput = {
      ...(options.name === undefined ? {} : { name: options.name }),
      template: options.template ?? "base",
      timeout_sec: seconds(options.timeoutMs ?? 0),
      ...(options.timeoutAction === undefined ? {} : { timeout_action: options.timeoutAction }),
      ...(options.vcpus === undefined ? {} : { vcpus: options.vcpus }),
      ...(options.memoryMiB === undefined ? {} : { memory_mb: options.memoryMiB }),
      ...(options.diskMiB === undefined ? {} : { disk_size_mb: options.diskMiB }),
      ...(options.envs === undefined ? {} : { envs: options.envs }),
      ...(options.metadata === undefined ? {} : { metadata: options.metadata }),
      ...(options.network === undefined ? {} : { network: networkBody(options.network) }),
      ...(options.volumes === undefined ? {} : { volumes: mountsBody(options.volumes) }),
    };
    const created = await client.request<rest.Capsule>("POST", "/v1/capsules", { ...call, body });
    try {
      await settle(client, created, ["running"], call);
    } catch (thrown) {
      await Sandbox.kill(created.id, { client }).catch(() => false);
      throw thrown;
    }
    return Sandbox.#of(client, created.id);
  }

  /** The sandbox with this id; a paused one is resumed first. Throws `not_found`, or `invalid_state` for one that ended. */
  static async connect(id: string, options: ConnectionOptions = {}): Promise<Sandbox> {
    const client = clientOf(options);
    const call = lifecycle(options);
    const found = await client.request<rest.Capsule>("GET", pathOf(id), options);
    const settled = await settle(client, found, ["running", "paused"], call);
    if (settled.status === "paused") await Sandbox.resume(found.id, { ...options, client });
    return Sandbox.#of(client, found.id);
  }

  /** Sandboxes of this key's team, newest first; those that ended are left out. */
  static async list(options: ConnectionOptions = {}): Promise<SandboxInfo[]> {
    const client = clientOf(options);
    const found: SandboxInfo[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await client.list({ ...options, cursor });
      found.push(...page.sandboxes);
      if (page.next === undefined) return found;
      cursor = page.next;
    }
  }

  /** Facts about a sandbox; throws `not_found`. */
  static async info(id: string, options: ConnectionOptions = {}): Promise<SandboxInfo> {
    return sandboxInfo(await clientOf(options).request<rest.Capsule>("GET", pathOf(id), options));
  }

  /** Removes a sandbox and everything in it; false when there is none. */
  static async kill(id: string, options: ConnectionOptions = {}): Promise<boolean> {
    try {
      await clientOf(options).request("DELETE", pathOf(id), lifecycle(options));
      return true;
    } catch (thrown) {
      if (thrown instanceof WrennError && thrown.code === "not_found") return false;
      throw thrown;
    }
  }

  /**
   * Freezes memory and disk, or keeps the disk alone, and frees the machine; with `hibernate` its disk as well. Resolves
   * when it is paused.
   */
  static async pause(id: string, options: PauseOptions & ConnectionOptions = {}): Promise<void> {
    await change(clientOf(options), `${pathOf(id)}/pause`, "paused", pausing(options));
  }

  /** Continues a paused sandbox where it stopped, or boots one that kept its disk alone; resolves when it takes commands. */
  static async resume(id: string, options: ResumeOptions & ConnectionOptions = {}): Promise<void> {
    await change(clientOf(options), `${pathOf(id)}/resume`, "running", { ...options, body: diskOnlyBody(options) });
  }

  /** Gives a sandbox another name, `null` for none, or other labels in place of those it has. Throws `conflict`. */
  static async update(
    id: string,
    labels: { name?: string | null; metadata?: Record<string, string> },
    options: ConnectionOptions = {},
  ): Promise<SandboxInfo> {
    const call = { signal: options.signal, requestTimeoutMs: options.requestTimeoutMs, body: labels };
    return sandboxInfo(await clientOf(options).request<rest.Capsule>("PATCH", pathOf(id), call));
  }

  /** Milliseconds without activity until the time-out action, counted anew; 0 means never. */
  static async setTimeout(id: string, timeoutMs: number, options: ConnectionOptions = {}): Promise<void> {
    const body = { timeout_sec: seconds(timeoutMs) };
    await clientOf(options).request("POST", `${pathOf(id)}/timeout`, { ...options, body });
  }

  /** Takes a snapshot of a running or paused sandbox, which stays as it is. Throws `conflict` for a name that is taken. */
  static async checkpoint(id: string, options: CheckpointOptions & ConnectionOptions = {}): Promise<SnapshotInfo> {
    const { name, metadata } = options;
    const label = { ...(name === undefined ? {} : { name }), ...(metadata === undefined ? {} : { metadata }) };
    const body = { ...label, ...diskOnlyBody(options) };
    const path = `${pathOf(id)}/checkpoint`;
    return snapshotInfo(await clientOf(options).request<rest.Snapshot>("POST", path, { ...lifecycle(options), body }));
  }

  /**
   * Starts copies of a running or paused sandbox, memory and processes included; all of them or none. A snapshot of
   * that moment stays, as the parent of the copies.
   */
  static async fork(id: string, options: ForkOptions & ConnectionOptions = {}): Promise<Sandbox[]> {
    const client = clientOf(options);
    const call = lifecycle(options);
    const { count, timeoutMs, envs, metadata } = options;
    const body = {
      ...(count === undefined ? {} : { count }),
      ...(timeoutMs === undefined ? {} : { timeout_sec: seconds(timeoutMs) }),
      ...(envs === undefined ? {} : { envs }),
      ...(metadata === undefined ? {} : { metadata }),
    };
    const copies = await client.request<rest.Capsule[]>("POST", `${pathOf(id)}/fork`, { ...call, body });
    try {
      await Promise.all(copies.map((copy) => settle(client, copy, ["running"], call)));
    } catch (thrown) {
      await Promise.allSettled(copies.map((copy) => Sandbox.kill(copy.id, { client })));
      throw thrown;
    }
    return await Promise.all(copies.map((copy) => Sandbox.#of(client, copy.id)));
  }

  /** Puts a sandbox back to a snapshot of its own line: memory, processes and disk; resolves when it runs. */
  static async rollback(id: string, snapshot: string, options: ConnectionOptions = {}): Promise<void> {
    await change(clientOf(options), `${pathOf(id)}/rollback`, "running", { ...options, body: { snapshot } });
  }

  /** How a port of a sandbox is reached; makes it public or private where asked to. */
  static async openPort(
    id: string,
    port: number,
    options: OpenPortOptions & ConnectionOptions = {},
  ): Promise<PortAccess> {
    const call = { signal: options.signal, requestTimeoutMs: options.requestTimeoutMs, body: openPortBody(options) };
    return portAccess(await clientOf(options).request<rest.PortInfo>("POST", `${pathOf(id)}/ports/${port}`, call));
  }

  /** What a sandbox may reach, what it reached in the last hour, and what it was refused. */
  static async network(id: string, options: ConnectionOptions = {}): Promise<NetworkInfo> {
    return networkInfo(await clientOf(options).request<rest.CapsuleNetwork>("GET", `${pathOf(id)}/network`, options));
  }

  /** The same as it is now, then whenever it changes, until the sandbox is gone or `signal` aborts. */
  static followNetwork(id: string, options: ConnectionOptions & FollowOptions = {}): AsyncGenerator<NetworkInfo, void> {
    return followNetwork(clientOf(options), id, options);
  }

  /** Replaces what a sandbox may reach; connections that it forbids end at once. */
  static async setNetwork(id: string, policy: NetworkPolicy, options: ConnectionOptions = {}): Promise<NetworkInfo> {
    const call = { signal: options.signal, requestTimeoutMs: options.requestTimeoutMs, body: networkBody(policy) };
    return networkInfo(await clientOf(options).request<rest.CapsuleNetwork>("PUT", `${pathOf(id)}/network`, call));
  }

  /** Processor, memory, disk and network of a running or paused sandbox over time, oldest first. */
  static async metrics(id: string, options: MetricsOptions & ConnectionOptions = {}): Promise<MetricPoint[]> {
    const call = { signal: options.signal, requestTimeoutMs: options.requestTimeoutMs };
    const path = `${pathOf(id)}/metrics?range=${options.range ?? "10m"}`;
    return (await clientOf(options).request<rest.CapsuleMetrics>("GET", path, call)).points.map(metricPoint);
  }

  /** Its load as points come, the first ones those of the range; ends when it is gone, or with `signal`. */
  static followMetrics(
    id: string,
    options: MetricsOptions & ConnectionOptions & FollowOptions = {},
  ): AsyncGenerator<MetricPoint[], void> {
    return followMetrics(clientOf(options), id, options);
  }

  /** What happened in and around a sandbox, oldest first: its life, its commands, its kernel. */
  static async logs(id: string, options: LogOptions & ConnectionOptions = {}): Promise<LogEntry[]> {
    return readLog(clientOf(options), id, options);
  }

  /** The same as it happens, until the sandbox is gone or `signal` aborts; nothing is missed over lost connections. */
  static followLogs(
    id: string,
    options: LogOptions & ConnectionOptions & FollowOptions = {},
  ): AsyncGenerator<LogEntry, void> {
    return followLog(clientOf(options), id, options);
  }

  static async #of(client: Wrenn, id: string): Promise<Sandbox> {
    return new Sandbox(client, id, await client.agent(id));
  }

  /** Facts about this sandbox. */
  info(options: CallOptions = {}): Promise<SandboxInfo> {
    return Sandbox.info(this.id, this.#with(options));
  }

  /** Another name, `null` for none, or other labels in place of those it has. */
  update(labels: { name?: string | null; metadata?: Record<string, string> }): Promise<SandboxInfo> {
    return Sandbox.update(this.id, labels, { client: this.client });
  }

  /**
   * Freezes memory and disk and frees the machine; `resume` or `Sandbox.connect` continues. With `diskOnly` the files are
   * kept and the processes are not: it boots when it is resumed.
   */
  pause(options: PauseOptions = {}): Promise<void> {
    return Sandbox.pause(this.id, this.#with(options));
  }

  /** Continues where `pause` stopped: memory, processes and files are as they were, unless the disk alone was kept. */
  resume(options: ResumeOptions = {}): Promise<void> {
    return Sandbox.resume(this.id, this.#with(options));
  }

  /** Milliseconds without activity until the time-out action, counted anew; 0 means never. */
  setTimeout(timeoutMs: number, options: CallOptions = {}): Promise<void> {
    return Sandbox.setTimeout(this.id, timeoutMs, this.#with(options));
  }

  /** Takes a snapshot: memory, processes and disk as they are now. The sandbox runs on, or stays paused. */
  checkpoint(options: CheckpointOptions = {}): Promise<SnapshotInfo> {
    return Sandbox.checkpoint(this.id, { ...options, client: this.client });
  }

  /**
   * Starts copies of this sandbox, memory and processes included; all of them or none.
   *
   * @example
   * ```ts
   * const [left, right] = await sandbox.fork({ count: 2 });
   * ```
   */
  fork(options: ForkOptions = {}): Promise<Sandbox[]> {
    return Sandbox.fork(this.id, { ...options, client: this.client });
  }

  /** Goes back to a snapshot of this sandbox or of its line. Commands under way end; what came after is lost. */
  rollback(snapshot: string | SnapshotInfo, options: CallOptions = {}): Promise<void> {
    return Sandbox.rollback(this.id, typeof snapshot === "string" ? snapshot : snapshot.name, this.#with(options));
  }

  /** How a port is reached from outside: its address, and what opens it while it is private. */
  openPort(port: number, options: OpenPortOptions = {}): Promise<PortAccess> {
    return Sandbox.openPort(this.id, port, { ...options, client: this.client });
  }

  /** What it may reach, what it reached in the last hour, and what it was refused. */
  network(options: CallOptions = {}): Promise<NetworkInfo> {
    return Sandbox.network(this.id, this.#with(options));
  }

  /**
   * Replaces what it may reach; connections that the policy forbids end at once.
   *
   * @example
   * ```ts
   * await sandbox.setNetwork({ internet: false, allow: ["pypi.org", "*.pythonhosted.org"] });
   * ```
   */
  setNetwork(policy: NetworkPolicy, options: CallOptions = {}): Promise<NetworkInfo> {
    return Sandbox.setNetwork(this.id, policy, this.#with(options));
  }

  /** Processor, memory, disk and network over time, oldest first. */
  metrics(options: MetricsOptions = {}): Promise<MetricPoint[]> {
    return Sandbox.metrics(this.id, { ...options, client: this.client });
  }

  /** Host name, and port where it needs one, of a port of this sandbox, such as `3000-cl-….example.com`. */
  async getHost(port: number, options: CallOptions = {}): Promise<string> {
    return new URL((await this.openPort(port, options)).url).host;
  }

  /** Counts as activity: the time until the time-out action starts anew. */
  async ping(options: CallOptions = {}): Promise<void> {
    await this.client.request("POST", `${pathOf(this.id)}/ping`, options);
  }

  /** Removes this sandbox and everything in it; false when it was gone already. */
  kill(options: CallOptions = {}): Promise<boolean> {
    return Sandbox.kill(this.id, this.#with(options));
  }

  /** Removes the sandbox at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #with<O extends CallOptions>(options: O): O & { client: Wrenn } {
    return { ...options, client: this.client };
  }
}

const clientOf = (options: ConnectionOptions): Wrenn => options.client ?? new Wrenn(options);
