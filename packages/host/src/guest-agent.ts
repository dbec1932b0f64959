import { dirname } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import {
  agentPort,
  filesystem,
  fromConnectError,
  headers,
  type InitRequest,
  type InitResponse,
  processes,
  volumeServerPath,
  WrennError,
} from "@wrenn/contract";
import type { Nic } from "./drivers/ports.ts";
import type { GuestPoint } from "./metrics/series.ts";

/**
 * Between two looks at an agent that does not answer yet; later ones come further apart, since a guest that boots for
 * seconds needs the processor itself.
 */
const pollMs = (waitedMs: number): number => Math.min(5 + waitedMs / 50, 250);

/** The guest agent's own tools (images/README.md, "Any root file system"). */
const busybox = "/usr/local/lib/wrenn/busybox";

/**
 * A guest that was restored answers within a second; a lost first packet costs it one more (TCP retransmission). Ten
 * emulated ones at once on a busy machine were seen to need more than 15 s, and a create must not fail for that.
 */
const identityTimeoutMs = 60_000;

/** Bytes of fresh entropy for a restored guest: the kernel's generator has a 256-bit state. */
const entropyBytes = 32;

/** A program that was started: what it printed last, and its exit status once it has ended. */
export type Launched = { said: string; ended: number | undefined; leave(): void };

/** As much of a program's output as says why it ended. */
const saidLength = 1_000;

/** What a guest is to be; the clock and the entropy are of the moment it is told. */
export type Identity = Omit<InitRequest, "timestamp" | "entropy">;

/** The guest agent at `address` (`host:port`), as the host uses it: readiness, identity, warm-up. */
export class GuestAgent {
  readonly #base: string;

  constructor(address: string) {
    this.#base = `http://${address}`;
  }

  /** Waits until the agent answers its health check. Throws `timeout`. */
  async ready(timeoutMs: number, gone: Promise<string>): Promise<void> {
    let ended: string | undefined;
    void gone.then((reason) => {
      ended = reason;
    });
    const started = performance.now();
    while (performance.now() < started + timeoutMs) {
      if (ended !== undefined) throw new WrennError("agent_error", `the VM ended before its agent answered: ${ended}`);
      const signal = AbortSignal.timeout(5_000);
      const answer = await fetch(`${this.#base}/health`, { signal, keepalive: false }).catch(() => undefined);
      if (answer?.ok) return;
      await Bun.sleep(pollMs(performance.now() - started));
    }
    throw new WrennError("timeout", `the guest agent did not answer within ${timeoutMs / 1000} s`, {
      remedy: "The host may be overloaded; look at its load and at the VM's console.log.",
    });
  }

  /**
   * Gives a restored guest its identity. Throws unless the guest says that its random generator was reseeded: a guest
   * without that shares its secrets with every other restore and must not be handed out. The connection stays open for
   * its first request; a rehearsal's does not, since it would be frozen with the guest.
   */
  async identify(identity: Identity, presentToken?: string): Promise<InitResponse> {
    const entropy = Buffer.from(crypto.getRandomValues(new Uint8Array(entropyBytes))).toString("base64");
    const request: InitRequest = { ...identity, timestamp: new Date().toISOString(), entropy };
    const answer = await fetch(`${this.#base}/init`, {
      method: "POST",
      keepalive: !identity.rehearsal,
      headers: { "content-type": "application/json", ...holding(presentToken) },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(identityTimeoutMs),
    }).catch((thrown) => {
      throw new WrennError("agent_error", "the guest did not take its identity", { cause: thrown });
    });
    const taken = answer.status === 200 ? ((await answer.json()) as InitResponse) : undefined;
    if (!taken?.reseeded)
      throw new WrennError("agent_error", `the guest did not acknowledge its identity (status ${answer.status})`);
    return taken;
  }

  /** Makes a running guest's programs trust certificates, in place of those it was told of before. */
  async trust(caBundle: string, token: string): Promise<void> {
    const request: InitRequest = { caBundle, accessToken: token, timestamp: new Date().toISOString() };
    const answer = await unpooled(`${this.#base}/init`, {
      method: "POST",
      headers: { "content-type": "application/json", ...holding(token) },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(identityTimeoutMs),
    }).catch((cause) => {
      throw new WrennError("agent_error", "the guest did not take its certificates", { cause });
    });
    if (!answer.ok)
      throw new WrennError("agent_error", `the guest did not take its certificates (status ${answer.status})`);
  }

  /** What the guest says of its own load. Throws when it does not answer in time. */
  async load(token: string, timeoutMs: number): Promise<GuestPoint> {
    const answer = await unpooled(`${this.#base}/metrics`, {
      headers: holding(token),
      signal: AbortSignal.timeout(timeoutMs),
    });
    if (!answer.ok) throw new WrennError("agent_error", `the guest answered ${answer.status}`);
    const said = (await answer.json()) as Record<string, unknown>;
    const size = (name: string) => Math.max(0, Number(said[name]) || 0); // guests say what they like
    return {
      cpuPct: Math.min(100, size("cpu_used_pct")),
      ...{ memUsedBytes: size("mem_used"), memCacheBytes: size("mem_cache"), memTotalBytes: size("mem_total") },
      ...{ diskUsedBytes: size("disk_used"), diskTotalBytes: size("disk_total") },
      ...{ netRxBytes: size("net_rx"), netTxBytes: size("net_tx") },
    };
  }

  /** What happened in the guest after number `after`. Throws when it does not answer in time. */
  async happenings(token: string, after: number, timeoutMs: number): Promise<unknown> {
    const answer = await unpooled(`${this.#base}/logs?after=${after}`, {
      headers: holding(token),
      signal: AbortSignal.timeout(timeoutMs),
    });
    if (!answer.ok) throw new WrennError("agent_error", `the guest answered ${answer.status}`);
    return answer.json();
  }

  /** Lets the agent drop what it need not carry into every restore. */
  async prepare(token?: string): Promise<void> {
    await unpooled(`${this.#base}/snapshot/prepare`, { method: "POST", headers: holding(token) });
  }

  /** Takes its access token from the agent: whoever asks next is let in. */
  async open(token: string): Promise<void> {
    const body = JSON.stringify({ accessToken: "" });
    await unpooled(`${this.#base}/init`, { method: "POST", headers: holding(token), body });
  }

  /** Returns when the guest's disk holds every file as it is. Throws when the guest does not answer in time. */
  async sync(token: string, timeoutMs: number): Promise<void> {
    const answer = await unpooled(`${this.#base}/snapshot/sync`, {
      method: "POST",
      headers: holding(token),
      signal: AbortSignal.timeout(timeoutMs),
    });
    if (!answer.ok) throw new WrennError("agent_error", `the guest answered ${answer.status}`);
  }

  /**
   * Has the guest's volume server run. A kernel that has FUSE as a module is given it from the file `module`. Throws
   * `unimplemented` when there is none.
   */
  async startVolumes(token: string, module: string): Promise<void> {
    const ask = (body?: Blob) => {
      const signal = AbortSignal.timeout(identityTimeoutMs);
      const init = { method: "POST", headers: holding(token), signal, ...(body && { body }) };
      return unpooled(this.#base + volumeServerPath, init).catch((cause) => {
        throw new WrennError("agent_error", "the guest did not start its volume server", { cause });
      });
    };
    let answer = await ask();
    if (answer.status === 424) {
      const file = Bun.file(module);
      if (!(await file.exists()))
        throw new WrennError("unimplemented", "the kernel of this sandbox cannot mount volumes", {
          remedy: `The host has no ${module}: fetch kernels anew with \`make images\`, or build one with \`make kernel\`.`,
        });
      answer = await ask(file);
    }
    if (!answer.ok) throw new WrennError("agent_error", `the guest's volume server was not started: ${answer.status}`);
  }

  /** Whether something listens on `port`; what listens on the guest's loopback only is made reachable on the way. */
  async openPort(port: number, token: string): Promise<boolean> {
    const answer = await fetch(`${this.#base}/ports/${port}`, {
      method: "POST",
      headers: holding(token),
    });
    if (!answer.ok && answer.status !== 404) throw new WrennError("agent_error", `the guest answered ${answer.status}`);
    return answer.ok;
  }

  /** Runs a program and waits for its end; each call on a connection of its own, as real callers come. */
  async run(cmd: string, args: readonly string[] = [], how: Running = {}): Promise<number> {
    const { user = "root", token, binary = false, timeoutMs, cwd = "/" } = how;
    const transport = createConnectTransport({ baseUrl: this.#base, fetch: unpooled, useBinaryFormat: binary });
    const client = createClient(processes.Process, transport);
    const request = { process: { cmd, args: [...args], envs: {}, ...(cwd && { cwd }) }, stdin: false };
    const headers = { ...(user && asUser(user)), ...holding(token) };
    const options = { headers, ...(timeoutMs !== undefined && { timeoutMs }) };
    let code: number | undefined;
    for await (const { event } of client.start(request, options))
      if (event?.event.case === "end") code = event.event.value.exitCode;
    if (code === undefined) throw new WrennError("agent_error", `${cmd} ended without an exit code`);
    return code;
  }

  /** Starts a program that stays. It outlives what is answered here, which tells of its end as long as it is not left. */
  launch(
    [cmd = "", ...args]: readonly string[],
    { user, cwd, env }: { user: string; cwd: string; env: Readonly<Record<string, string>> },
  ): Launched {
    const transport = createConnectTransport({ baseUrl: this.#base, fetch: unpooled, useBinaryFormat: true });
    const request = { process: { cmd, args, envs: { ...env }, cwd }, stdin: false, tag: "start" };
    const left = new AbortController();
    const options = { headers: asUser(user), signal: left.signal };
    const launched: Launched = { said: "", ended: undefined, leave: () => left.abort() };
    const follow = async () => {
      for await (const { event } of createClient(processes.Process, transport).start(request, options)) {
        const happened = event?.event;
        if (happened?.case === "data" && happened.value.output.case !== undefined)
          launched.said = (launched.said + Buffer.from(happened.value.output.value).toString()).slice(-saidLength);
        else if (happened?.case === "end") launched.ended = happened.value.exitCode;
      }
    };
    follow().catch((thrown) => {
      if (left.signal.aborted) return;
      launched.said ||= WrennError.from(fromConnectError(thrown)).message;
      launched.ended ??= -1;
    });
    return launched;
  }

  /** Runs a usual tool: the image's own, or the guest agent's where an image has none. */
  async tool(name: string, args: readonly string[] = [], how: Running = {}): Promise<void> {
    try {
      await this.run(name, args, how);
    } catch (thrown) {
      if (fromConnectError(thrown).code !== "command_not_found") throw thrown;
      await this.run(busybox, [name, ...args], how);
    }
  }

  /** Writes a small file, reads it, lists its folder and removes it. */
  async tryFile(path: string, { user = "root", token }: Running = {}): Promise<void> {
    const file = `${this.#base}/files?path=${path}&username=${user}`;
    const headers = { "content-type": "application/octet-stream", ...holding(token) };
    for (const init of [{ method: "POST", body: "x", headers }, { headers }])
      await (await unpooled(file, init)).arrayBuffer();
    const transport = createConnectTransport({ baseUrl: this.#base, fetch: unpooled, useBinaryFormat: true });
    const files = createClient(filesystem.Filesystem, transport);
    const call = { headers: { ...asUser(user), ...holding(token) } };
    await files.listDir({ path: dirname(path) }, call);
    await files.remove({ path }, call);
  }
}

/** How a program is run. */
export type Running = {
  /** Empty: the guest's default user; and the default folder, below. */
  readonly user?: string | undefined;
  readonly cwd?: string;
  /** The agent's access token, where it has one. */
  readonly token?: string | undefined;
  readonly binary?: boolean;
  readonly timeoutMs?: number;
};

const asUser = (user: string) => ({ Authorization: `Basic ${btoa(`${user}:`)}` });

const holding = (token: string | undefined): Record<string, string> => (token ? { [headers.accessToken]: token } : {});

/** `fetch` on a connection of its own. */
const unpooled = ((input: RequestInfo | URL, init?: RequestInit) =>
  fetch(input, { ...init, keepalive: false })) as typeof fetch;

/** The guest agent of a machine. */
export const agentOf = ({ nic }: { nic: Nic }): GuestAgent => {
  const address = nic.reach(agentPort);
  if (!address) throw new WrennError("internal_error", "the guest agent's port is not forwarded");
  return new GuestAgent(address);
};
