import { create } from "@bufbuild/protobuf";
import { processes } from "@wrenn/contract";
import type { Agent } from "./agent.ts";
import type { CallOptions } from "./api.ts";
import { CommandExitError, type CommandResult, fromAgentError } from "./errors.ts";
import { Output, type OutputChunk } from "./output.ts";
import { killProcess, RunningProcess, type Signal } from "./process.ts";

/** How a command runs. */
export type CommandOptions = {
  /** Working directory; default the user's home. */
  cwd?: string | undefined;
  /** Environment, on top of the sandbox's. */
  envs?: Record<string, string> | undefined;
  /** User in the guest; default the sandbox's. */
  user?: string | undefined;
  /** Milliseconds the command may run before it is killed; default 60,000; 0 means no limit. */
  timeoutMs?: number | undefined;
  /** Called with each piece of standard output as text; a returned promise holds the stream back. */
  onStdout?: ((text: string) => unknown) | undefined;
  /** Called with each piece of standard error as text; a returned promise holds the stream back. */
  onStderr?: ((text: string) => unknown) | undefined;
  /** Called with each piece of either stream as bytes, exactly as written; a returned promise holds the stream back. */
  onOutput?: ((chunk: OutputChunk) => unknown) | undefined;
  /** Standard input: text or bytes are sent and then closed; `true` keeps it open for `sendStdin`; default none. */
  stdin?: boolean | string | Uint8Array | undefined;
  /** Whether output is kept for the result; default true. */
  collect?: boolean | undefined;
  /** Bytes kept of each stream; default 64 MiB, so that a guest cannot fill this program's memory. */
  maxOutputBytes?: number | undefined;
  /** A name for the process, shown by `list()`. */
  tag?: string | undefined;
  /** Cancels the command: it is killed, and the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
};

/** A process of a sandbox. */
export type ProcessInfo = {
  pid: number;
  tag?: string;
  cmd: string;
  args: string[];
  envs: Record<string, string>;
  cwd?: string;
};

/** A command of a sandbox that was told to go on in the background. */
export type Background = CommandOptions & { background: true };

/** A command whose end is waited for. */
export type Foreground = CommandOptions & { background?: false };

const defaultTimeoutMs = 60_000;
const defaultMaxOutputBytes = 64 * 1024 * 1024;

/** A running command. It outlives this handle: `disconnect` leaves it running, `kill` ends it. */
export class CommandHandle {
  readonly #process: RunningProcess;
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #onOutput: ((chunk: OutputChunk) => unknown) | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #result: Promise<CommandResult>;

  constructor(process: RunningProcess, options: CommandOptions) {
    const limit = options.collect === false ? 0 : (options.maxOutputBytes ?? defaultMaxOutputBytes);
    this.#process = process;
    this.#stdout = new Output(limit, options.onStdout);
    this.#stderr = new Output(limit, options.onStderr);
    this.#onOutput = options.onOutput;
    this.#signal = options.signal;
    this.#result = this.#run();
    this.#result.catch(() => {}); // it is thrown again by `wait`, which may come later or never
  }

  /** Process id in the guest. */
  get pid(): number {
    return this.#process.pid;
  }

  /** Standard output collected so far. */
  get stdout(): string {
    return this.#stdout.text;
  }

  /** Standard error collected so far. */
  get stderr(): string {
    return this.#stderr.text;
  }

  /** The result; throws {@link CommandExitError} when the exit code is not 0, WrennError `timeout` when time ran out. */
  async wait(): Promise<CommandResult> {
    const result = await this.#result;
    if (result.exitCode !== 0) throw new CommandExitError(result);
    return result;
  }

  /** The result whatever the exit code. */
  ended(): Promise<CommandResult> {
    return this.#result;
  }

  /** Sends text or bytes to standard input, in the order of the calls; needs the option `stdin`. */
  sendStdin(data: string | Uint8Array): Promise<void> {
    return this.#process.send("stdin", data);
  }

  /** Ends standard input, after everything sent before. */
  closeStdin(): Promise<void> {
    return this.#process.closeStdin();
  }

  /** Sends SIGKILL, or another signal; false when the command had already ended. */
  kill(signal: Signal = "SIGKILL"): Promise<boolean> {
    return this.#process.kill(signal);
  }

  /** Stops listening and leaves the command running; `wait` then rejects. Attach again with `commands.connect(pid)`. */
  disconnect(): void {
    this.#process.disconnect();
  }

  async #run(): Promise<CommandResult> {
    const ended = await this.#process.consume((output) => this.#take(output));
    await Promise.all([this.#stdout.end(), this.#stderr.end()]);
    this.#signal?.throwIfAborted();
    if (!ended) throw new DOMException("disconnected from the command, which goes on", "AbortError");
    return {
      ...ended,
      stdout: this.#stdout.text,
      stderr: this.#stderr.text,
      truncated: this.#stdout.truncated || this.#stderr.truncated,
    };
  }

  #take(output: processes.ProcessEvent_DataEvent["output"]): unknown {
    if (output.case === undefined) return undefined;
    const kept = output.case === "stderr" ? this.#stderr.push(output.value) : this.#stdout.push(output.value);
    if (!this.#onOutput) return kept;
    const given = this.#onOutput({ stream: output.case, bytes: output.value });
    return kept instanceof Promise ? Promise.all([kept, given]) : given;
  }
}

/** Commands of a sandbox. */
export class Commands {
  readonly #agent: Agent;

  constructor(agent: Agent) {
    this.#agent = agent;
  }

  /**
   * Runs a line of shell, `/bin/bash -l -c`, and waits for its end. Throws {@link CommandExitError} when the exit code
   * is not 0 and WrennError `timeout` when time ran out. With `background: true` a handle is returned at once.
   *
   * @example
   * ```ts
   * const { stdout } = await sandbox.commands.run("python3 -c 'print(6 * 7)'");
   * const server = await sandbox.commands.run("python3 -m http.server", { background: true, timeoutMs: 0 });
   * ```
   */
  run(cmd: string, options: Background): Promise<CommandHandle>;
  run(cmd: string, options?: Foreground): Promise<CommandResult>;
  run(cmd: string, options: Background | Foreground = {}): Promise<CommandHandle | CommandResult> {
    return this.#start("/bin/bash", ["-l", "-c", cmd], options);
  }

  /**
   * Runs a program with arguments and no shell, so nothing needs quoting; otherwise as {@link run}.
   *
   * @example
   * ```ts
   * await sandbox.commands.exec("git", ["commit", "-m", message], { cwd: "/repo" });
   * ```
   */
  exec(cmd: string, args: readonly string[], options: Background): Promise<CommandHandle>;
  exec(cmd: string, args?: readonly string[], options?: Foreground): Promise<CommandResult>;
  exec(cmd: string, args: readonly string[] = [], options: Background | Foreground = {}) {
    return this.#start(cmd, args, options);
  }

  /** Processes the guest agent started and that still run. */
  async list({ signal, requestTimeoutMs }: CallOptions = {}): Promise<ProcessInfo[]> {
    try {
      const call = { ...(signal ? { signal } : {}), timeoutMs: requestTimeoutMs ?? defaultTimeoutMs };
      const found = await this.#agent.processes.list({}, call);
      return found.processes.map(({ pid, tag, config }) => ({
        pid,
        ...(tag === undefined ? {} : { tag }),
        cmd: config?.cmd ?? "",
        args: config?.args ?? [],
        envs: config?.envs ?? {},
        ...(config?.cwd === undefined ? {} : { cwd: config.cwd }),
      }));
    } catch (thrown) {
      throw fromAgentError(thrown, signal);
    }
  }

  /** Attaches to a running command; output from before is not repeated. Throws `not_found` when it has ended. */
  async connect(pid: number, options: CommandOptions = {}): Promise<CommandHandle> {
    return new CommandHandle(await RunningProcess.connect(this.#agent, pid, withDefaults(options)), options);
  }

  /** Sends SIGKILL, or another signal; false when there is no such process. */
  kill(pid: number, signal: Signal = "SIGKILL"): Promise<boolean> {
    return killProcess(this.#agent, pid, signal);
  }

  async #start(cmd: string, args: readonly string[], options: Background | Foreground) {
    const { cwd, envs = {}, stdin = false, tag } = options;
    const request = create(processes.StartRequestSchema, {
      process: { cmd, args: [...args], envs, ...(cwd === undefined ? {} : { cwd }) },
      stdin: stdin !== false,
      ...(tag === undefined ? {} : { tag }),
    });
    const handle = new CommandHandle(await RunningProcess.start(this.#agent, request, withDefaults(options)), options);
    if (typeof stdin !== "boolean") void feed(handle, stdin);
    return options.background ? handle : handle.wait();
  }
}

const withDefaults = ({ user, timeoutMs = defaultTimeoutMs, signal }: CommandOptions) => ({ user, timeoutMs, signal });

/** A command that ends without reading its input is no failure, so errors of the input end here. */
async function feed(handle: CommandHandle, stdin: string | Uint8Array): Promise<void> {
  try {
    await handle.sendStdin(stdin);
    await handle.closeStdin();
  } catch {
    // The end event tells what became of the command.
  }
}
