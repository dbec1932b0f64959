import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { processes, WrennError } from "@wrenn/contract";
import type { Agent } from "./agent.ts";
import type { CallOptions } from "./api.ts";
import { fromAgentError, timedOut } from "./errors.ts";
import { envelope, joined, type ProcessEvent } from "./event-stream.ts";

/** How a process ended. */
export type Ended = { exitCode: number; status: string };

/** One write to a process; a larger one is cut so that no message outgrows a proxy's buffers. */
const maxInputBytes = 256 * 1024;

/** The guest kills a process whose time is up and says so; this long after that the client stops waiting for it. */
const graceMs = 5_000;

/** Timers of every runtime overflow beyond 31 bits and then fire at once. */
const longestTimerMs = 2 ** 31 - graceMs;

/** What a {@link RunningProcess} is opened with. */
export type OpenOptions = CallOptions & {
  user?: string | undefined;
  /** Milliseconds the process may run; 0 means no limit. */
  timeoutMs?: number | undefined;
};

type Request = [method: "Start" | "Connect", framed: Uint8Array<ArrayBuffer>];

/** A process in the guest and the stream of its events: what commands and terminals have in common. */
export class RunningProcess {
  readonly pid: number;
  readonly #agent: Agent;
  readonly #events: AsyncIterator<ProcessEvent>;
  readonly #stream: AbortController;
  #forget: () => void = () => {};
  readonly #unsent: Uint8Array[] = [];
  #input: Promise<unknown> = Promise.resolve();

  private constructor(agent: Agent, opened: Opened) {
    this.#agent = agent;
    this.pid = opened.pid;
    this.#events = opened.events;
    this.#stream = opened.stream;
  }

  /** Starts a process; resolves when the guest has spawned it. An abort later than that kills it. */
  static start(agent: Agent, request: processes.StartRequest, options: OpenOptions): Promise<RunningProcess> {
    return RunningProcess.#open(agent, ["Start", envelope(processes.StartRequestSchema, request)], options);
  }

  /** Attaches to a process by pid. */
  static connect(agent: Agent, pid: number, options: OpenOptions): Promise<RunningProcess> {
    const request = create(processes.ConnectRequestSchema, { process: byPid(pid) });
    return RunningProcess.#open(agent, ["Connect", envelope(processes.ConnectRequestSchema, request)], options);
  }

  static async #open(agent: Agent, request: Request, options: OpenOptions): Promise<RunningProcess> {
    options.signal?.throwIfAborted();
    const stream = new AbortController();
    const timeoutMs = options.timeoutMs ?? 0;
    const limit = timeoutMs > 0 ? { "Connect-Timeout-Ms": String(Math.ceil(timeoutMs)) } : {};
    const init = { headers: { ...agent.stream(options.user), ...limit }, signal: stream.signal };
    const events = eventsOf(() => agent.events(...request, init), timeoutMs);
    const opening = events.next().then(({ value }) => {
      if (value?.case !== "start") throw new WrennError("agent_error", "the guest agent sent no start event");
      return new RunningProcess(agent, { pid: value.value.pid, events, stream });
    });
    const process = await orAborted(opening, options.signal);
    process.#endWith(options.signal, timeoutMs);
    return process;
  }

  /** Events after the first until the process ends; `undefined` when {@link disconnect} came before. */
  async consume(onData: (data: processes.ProcessEvent_DataEvent["output"]) => unknown): Promise<Ended | undefined> {
    try {
      for (;;) {
        const { value, done } = await this.#events.next();
        if (done) throw new WrennError("agent_error", "the connection ended before the process did");
        if (value?.case === "end") return { exitCode: value.value.exitCode, status: value.value.status };
        const pending = value?.case === "data" ? onData(value.value.output) : undefined;
        if (pending instanceof Promise) await pending;
      }
    } catch (thrown) {
      if (this.#stream.signal.reason instanceof WrennError) throw this.#stream.signal.reason;
      if (this.#stream.signal.aborted) return undefined;
      throw thrown;
    } finally {
      this.#forget();
    }
  }

  /** Sends bytes in the order of the calls; resolves when the guest has taken them. Small ones in a row travel together. */
  send(kind: "stdin" | "pty", data: string | Uint8Array): Promise<void> {
    this.#unsent.push(typeof data === "string" ? new TextEncoder().encode(data) : data);
    return this.#inOrder(async () => {
      const bytes = joined(this.#unsent.splice(0));
      for (let at = 0; at < bytes.byteLength; at += maxInputBytes) {
        const value = bytes.subarray(at, at + maxInputBytes) as Uint8Array<ArrayBuffer>;
        await this.#agent.processes.sendInput({ process: byPid(this.pid), input: { input: { case: kind, value } } });
      }
    });
  }

  /** Ends the process's standard input, after everything sent before. */
  closeStdin(): Promise<void> {
    return this.#inOrder(() => this.#agent.processes.closeStdin({ process: byPid(this.pid) }));
  }

  /** Sends a signal, SIGKILL unless told otherwise; false when the process had already ended. */
  kill(signal?: Signal): Promise<boolean> {
    return killProcess(this.#agent, this.pid, signal);
  }

  /** Closes the stream and leaves the process running. */
  disconnect(): void {
    this.#stream.abort();
  }

  /** Kills the process and closes the stream, whether or not the guest can still be reached. */
  async abort(reason?: WrennError): Promise<void> {
    await this.kill().catch(() => false);
    this.#stream.abort(reason);
  }

  /** Until the process has ended, and not longer: its pid may by then belong to another. */
  #endWith(signal: AbortSignal | undefined, timeoutMs: number): void {
    const onAbort = () => void this.abort();
    const onLate = () => void this.abort(timedOut("the command", timeoutMs));
    const timer = timeoutMs > 0 && timeoutMs < longestTimerMs ? setTimeout(onLate, timeoutMs + graceMs) : undefined;
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#forget = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
  }

  async #inOrder(step: () => Promise<unknown>): Promise<void> {
    const mine = this.#input.then(step);
    this.#input = mine.catch(() => {});
    try {
      await mine;
    } catch (thrown) {
      throw fromAgentError(thrown);
    }
  }
}

type Opened = { pid: number; events: AsyncIterator<ProcessEvent>; stream: AbortController };

/** A selector for a process id. */
export const byPid = (pid: number) => ({ selector: { case: "pid" as const, value: pid } });

/** Signals the guest agent sends. */
export type Signal = "SIGKILL" | "SIGTERM";

const signals = { SIGKILL: processes.Signal.SIGKILL, SIGTERM: processes.Signal.SIGTERM };

/** Sends a signal, SIGKILL unless told otherwise; false when there is no such process. */
export async function killProcess(agent: Agent, pid: number, signal: Signal = "SIGKILL"): Promise<boolean> {
  try {
    await agent.processes.sendSignal({ process: byPid(pid), signal: signals[signal] });
    return true;
  } catch (thrown) {
    const error = fromAgentError(thrown);
    if (error instanceof WrennError && error.code === "not_found") return false;
    throw error;
  }
}

/** The events of a stream, with its errors in the SDK's own words. */
async function* eventsOf(
  open: () => Promise<AsyncIterable<ProcessEvent>>,
  timeoutMs: number,
): AsyncGenerator<ProcessEvent, undefined> {
  try {
    yield* await open();
  } catch (thrown) {
    if (thrown instanceof ConnectError && thrown.code === Code.DeadlineExceeded)
      throw timedOut("the command", timeoutMs, thrown);
    throw thrown instanceof TypeError ? broken(thrown) : fromAgentError(thrown);
  }
  return undefined;
}

const broken = (cause: unknown): WrennError =>
  new WrennError("host_unavailable", "the connection to the command broke", {
    remedy: "If the sandbox still runs, so may the command: attach to it again with `commands.connect(pid)`.",
    cause,
  });

/**
 * Waits for the process, or rejects when the caller gives up first.
 * The guest may have spawned it all the same, so the stream stays open until the pid is known and can be killed.
 */
async function orAborted(opening: Promise<RunningProcess>, signal: AbortSignal | undefined): Promise<RunningProcess> {
  if (!signal) return opening;
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      reject(signal.reason);
      void opening.then((process) => process.abort()).catch(() => {});
    };
    signal.addEventListener("abort", onAbort, { once: true });
    opening.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
