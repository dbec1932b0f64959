import { type rest, type State, WrennError } from "@wrenn/contract";
import type { Agent } from "./agent.ts";
import { type CallOptions, Wrenn } from "./client.ts";
import { Commands } from "./commands.ts";
import type { WrennOptions } from "./config.ts";
import { timedOut } from "./errors.ts";
import { Files } from "./files.ts";
import { Pty } from "./pty.ts";

/** Which server to talk to: a client, or what one is made from. */
export type ConnectionOptions = WrennOptions & CallOptions & { client?: Wrenn | undefined };

/** What a new sandbox is made of. */
export type CreateOptions = ConnectionOptions & {
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
};

/** A sandbox as the server describes it. */
export type SandboxInfo = {
  id: string;
  status: State;
  template: string;
  vcpus: number;
  memoryMiB: number;
  diskMiB: number;
  /** Milliseconds without activity until its time-out action; 0 means never. */
  timeoutMs: number;
  metadata: Record<string, string>;
  createdAt: Date;
  startedAt: Date | undefined;
  lastActiveAt: Date | undefined;
  /** Why it ended, when nobody asked for that. */
  error: string | undefined;
};

/** A create may boot a template for the first time, a pause may write gigabytes: minutes, on a slow machine. */
const defaultLifecycleMs = 300_000;

/** Half of what is left to wait rarely matters more than this, and a server answers it without effort. */
const maxPollMs = 500;

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
      template: options.template ?? "base",
      timeout_sec: seconds(options.timeoutMs ?? 0),
      ...(options.timeoutAction === undefined ? {} : { timeout_action: options.timeoutAction }),
      ...(options.vcpus === undefined ? {} : { vcpus: options.vcpus }),
      ...(options.memoryMiB === undefined ? {} : { memory_mb: options.memoryMiB }),
      ...(options.diskMiB === undefined ? {} : { disk_size_mb: options.diskMiB }),
      ...(options.envs === undefined ? {} : { envs: options.envs }),
      ...(options.metadata === undefined ? {} : { metadata: options.metadata }),
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
    const found = await clientOf(options).request<rest.Capsule[]>("GET", "/v1/capsules", options);
    return found.map(sandboxInfo);
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

  /** Freezes memory and disk and frees the machine; resolves when it is paused. */
  static async pause(id: string, options: ConnectionOptions = {}): Promise<void> {
    await transition(id, "pause", options);
  }

  /** Continues a paused sandbox where it stopped; resolves when it takes commands. */
  static async resume(id: string, options: ConnectionOptions = {}): Promise<void> {
    await transition(id, "resume", options);
  }

  /** Milliseconds without activity until the time-out action, counted anew; 0 means never. */
  static async setTimeout(id: string, timeoutMs: number, options: ConnectionOptions = {}): Promise<void> {
    const body = { timeout_sec: seconds(timeoutMs) };
    await clientOf(options).request("POST", `${pathOf(id)}/timeout`, { ...options, body });
  }

  static async #of(client: Wrenn, id: string): Promise<Sandbox> {
    return new Sandbox(client, id, await client.agent(id));
  }

  /** Facts about this sandbox. */
  info(options: CallOptions = {}): Promise<SandboxInfo> {
    return Sandbox.info(this.id, this.#with(options));
  }

  /** Freezes memory and disk and frees the machine; `resume` or `Sandbox.connect` continues. */
  pause(options: CallOptions = {}): Promise<void> {
    return Sandbox.pause(this.id, this.#with(options));
  }

  /** Continues where `pause` stopped: memory, processes and files are as they were. */
  resume(options: CallOptions = {}): Promise<void> {
    return Sandbox.resume(this.id, this.#with(options));
  }

  /** Milliseconds without activity until the time-out action, counted anew; 0 means never. */
  setTimeout(timeoutMs: number, options: CallOptions = {}): Promise<void> {
    return Sandbox.setTimeout(this.id, timeoutMs, this.#with(options));
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

  #with(options: CallOptions): ConnectionOptions {
    return { ...options, client: this.client };
  }
}

const clientOf = (options: ConnectionOptions): Wrenn => options.client ?? new Wrenn(options);

const pathOf = (id: string): string => `/v1/capsules/${encodeURIComponent(id)}`;

const seconds = (ms: number): number => Math.ceil(ms / 1000);

const lifecycle = ({ signal, requestTimeoutMs = defaultLifecycleMs }: CallOptions): CallOptions => ({
  signal,
  requestTimeoutMs,
});

async function transition(id: string, action: "pause" | "resume", options: ConnectionOptions): Promise<void> {
  const client = clientOf(options);
  const call = lifecycle(options);
  const answer = await client.request<rest.Capsule>("POST", `${pathOf(id)}/${action}`, call);
  await settle(client, answer, [action === "pause" ? "paused" : "running"], call);
}

/** States a sandbox leaves by itself; every other one is an answer. */
const passing: readonly State[] = ["pending", "starting", "pausing", "resuming", "stopping", "missing"];

/** Waits until a sandbox has reached one of the states wanted; a server that answers early is asked again. */
async function settle(client: Wrenn, from: rest.Capsule, wanted: readonly State[], call: CallOptions) {
  const deadline = Date.now() + (call.requestTimeoutMs || Number.POSITIVE_INFINITY);
  let capsule = from;
  for (let pollMs = 10; passing.includes(capsule.status); pollMs = Math.min(pollMs * 2, maxPollMs)) {
    if (Date.now() > deadline)
      throw timedOut(`waiting for ${capsule.id}, which is ${capsule.status},`, call.requestTimeoutMs);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
    capsule = await client.request<rest.Capsule>("GET", pathOf(capsule.id), { signal: call.signal });
  }
  if (wanted.includes(capsule.status)) return capsule;
  const why = capsule.error ? `: ${capsule.error}` : "";
  throw new WrennError("invalid_state", `sandbox ${capsule.id} is ${capsule.status}${why}`, {
    remedy: "Create another sandbox.",
    details: { id: capsule.id, state: capsule.status, wanted: wanted.join(" or ") },
  });
}

const date = (text: string | undefined): Date | undefined => (text === undefined ? undefined : new Date(text));

function sandboxInfo(capsule: rest.Capsule): SandboxInfo {
  return {
    id: capsule.id,
    status: capsule.status,
    template: capsule.template,
    vcpus: capsule.vcpus,
    memoryMiB: capsule.memory_mb,
    diskMiB: capsule.disk_size_mb,
    timeoutMs: capsule.timeout_sec * 1000,
    metadata: capsule.metadata ?? {},
    createdAt: new Date(capsule.created_at),
    startedAt: date(capsule.started_at),
    lastActiveAt: date(capsule.last_active_at),
    error: capsule.error,
  };
}
