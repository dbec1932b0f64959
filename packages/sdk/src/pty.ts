import { create } from "@bufbuild/protobuf";
import { processes } from "@wrenn/contract";
import type { Agent } from "./agent.ts";
import { fromAgentError } from "./errors.ts";
import { byPid, type Ended, killProcess, RunningProcess } from "./process.ts";

/** Size of a terminal in characters. */
export type PtySize = { cols: number; rows: number };

/** What happens with a terminal's output. */
export type PtyConnectOptions = {
  /** Called with each piece of output; a returned promise holds the stream back. */
  onData?: ((bytes: Uint8Array) => unknown) | undefined;
  /** User in the guest; default the sandbox's. */
  user?: string | undefined;
  /** Milliseconds until the terminal is closed; default 0, no limit. */
  timeoutMs?: number | undefined;
  /** Closes the terminal: its shell is killed. */
  signal?: AbortSignal | undefined;
};

/** How a terminal starts. */
export type PtyOptions = PtySize &
  PtyConnectOptions & {
    cwd?: string | undefined;
    envs?: Record<string, string> | undefined;
    /** Program and arguments; default an interactive login shell. */
    command?: readonly [string, ...string[]] | undefined;
  };

/** A terminal of a sandbox. It outlives this handle: attach again with `pty.connect(pid)`. */
export class PtyHandle {
  readonly #agent: Agent;
  readonly #process: RunningProcess;
  readonly #ended: Promise<Ended>;

  constructor(agent: Agent, process: RunningProcess, options: PtyConnectOptions) {
    this.#agent = agent;
    this.#process = process;
    this.#ended = this.#run(options);
    this.#ended.catch(() => {}); // it is thrown again by `wait`, which may come later or never
  }

  /** Process id in the guest. */
  get pid(): number {
    return this.#process.pid;
  }

  /** How the terminal's program ended. */
  wait(): Promise<Ended> {
    return this.#ended;
  }

  /** Types text or bytes, in the order of the calls. */
  sendInput(data: string | Uint8Array): Promise<void> {
    return this.#process.send("pty", data);
  }

  /** Tells the program in the terminal its new size. */
  resize(size: PtySize): Promise<void> {
    return resizePty(this.#agent, this.pid, size);
  }

  /** Kills the terminal's program; false when it had already ended. */
  kill(): Promise<boolean> {
    return this.#process.kill();
  }

  /** Stops listening and leaves the program running; `wait` then rejects. */
  disconnect(): void {
    this.#process.disconnect();
  }

  async #run({ onData, signal }: PtyConnectOptions): Promise<Ended> {
    const ended = await this.#process.consume((output) => (output.case === "pty" ? onData?.(output.value) : undefined));
    signal?.throwIfAborted();
    if (!ended) throw new DOMException("disconnected from the terminal, which goes on", "AbortError");
    return ended;
  }
}

/** Terminals of a sandbox. */
export class Pty {
  readonly #agent: Agent;

  constructor(agent: Agent) {
    this.#agent = agent;
  }

  /**
   * Opens a terminal with an interactive login shell.
   *
   * @example
   * ```ts
   * const terminal = await sandbox.pty.create({ cols: 80, rows: 24, onData: (bytes) => process.stdout.write(bytes) });
   * await terminal.sendInput("ls --color\nexit\n");
   * await terminal.wait();
   * ```
   */
  async create(options: PtyOptions): Promise<PtyHandle> {
    const { cols, rows, cwd, envs = {}, command = ["/bin/bash", "-i", "-l"] } = options;
    const [cmd, ...args] = command;
    const request = create(processes.StartRequestSchema, {
      process: {
        cmd,
        args,
        envs: { TERM: "xterm-256color", LANG: "C.UTF-8", LC_ALL: "C.UTF-8", ...envs },
        ...(cwd === undefined ? {} : { cwd }),
      },
      pty: { size: { cols, rows } },
    });
    return new PtyHandle(this.#agent, await RunningProcess.start(this.#agent, request, options), options);
  }

  /** Attaches to a terminal; output from before is not repeated. */
  async connect(pid: number, options: PtyConnectOptions = {}): Promise<PtyHandle> {
    return new PtyHandle(this.#agent, await RunningProcess.connect(this.#agent, pid, options), options);
  }

  /** Types into a terminal by pid. */
  async sendInput(pid: number, data: string | Uint8Array): Promise<void> {
    const value = (typeof data === "string" ? new TextEncoder().encode(data) : data) as Uint8Array<ArrayBuffer>;
    try {
      await this.#agent.processes.sendInput({ process: byPid(pid), input: { input: { case: "pty", value } } });
    } catch (thrown) {
      throw fromAgentError(thrown);
    }
  }

  /** Changes a terminal's size by pid. */
  resize(pid: number, size: PtySize): Promise<void> {
    return resizePty(this.#agent, pid, size);
  }

  /** Kills a terminal's program by pid; false when there is none. */
  kill(pid: number): Promise<boolean> {
    return killProcess(this.#agent, pid);
  }
}

async function resizePty(agent: Agent, pid: number, { cols, rows }: PtySize): Promise<void> {
  try {
    await agent.processes.update({ process: byPid(pid), pty: { size: { cols, rows } } });
  } catch (thrown) {
    throw fromAgentError(thrown);
  }
}
