import { capsuleId, processes, type rest, type SandboxId, WrennError } from "@wrenn/contract";
import type { Guest } from "../hosts/guest.ts";
import type { Caller } from "./caller.ts";
import { type Guests, guestError } from "./guests.ts";
import { Output } from "./output.ts";

/** A killed process ends at once; a guest that does not even report that within this time is stuck. */
const killGraceMs = 5_000;
/** Partial output of a timed-out command that still fits into an error's details. */
const partialBytes = 4_096;

const { Signal } = processes;

/** What a running command is known by. */
export type Selector = { case: "pid"; value: number } | { case: "tag"; value: string };

/** A path's selector: digits are a process id, anything else a tag. */
export const selectorOf = (text: string): Selector =>
  /^\d{1,9}$/.test(text) ? { case: "pid", value: Number(text) } : { case: "tag", value: text };

/** Commands that run to their end, in the background, and the processes of a sandbox. */
export class Commands {
  constructor(readonly guests: Guests) {}

  /**
   * Runs a command and collects its output. Throws `timeout` with what it printed until then, `command_not_found`,
   * `invalid_request` for a missing folder or user. When `gone` aborts, nobody waits any more and the command is killed.
   */
  async exec(caller: Caller, id: SandboxId, request: rest.ExecRequest, gone: AbortSignal): Promise<rest.ExecResult> {
    const guest = await this.guests.open(caller, id, request.user);
    const run = new Run(guest, request);
    const started = performance.now();
    const exitCode = await run.finish(gone);
    const { stdout, stderr, encoding, truncated } = run.output.encode();
    return {
      sandbox_id: capsuleId(id),
      cmd: request.cmd,
      stdout,
      stderr,
      exit_code: exitCode,
      duration_ms: Math.round((performance.now() - started) * 1000) / 1000,
      encoding,
      ...(truncated && { truncated }),
    };
  }

  /** Starts a command and leaves it running; it is known by its tag. */
  async background(caller: Caller, id: SandboxId, request: rest.ExecRequest): Promise<rest.BackgroundResult> {
    const guest = await this.guests.open(caller, id, request.user);
    const tag = request.tag || `proc-${crypto.randomUUID().slice(0, 8)}`;
    const left = new AbortController();
    try {
      for await (const { event } of guest.processes.start({ ...startOf(request), tag }, { signal: left.signal }))
        if (event?.event.case === "start")
          return { sandbox_id: capsuleId(id), cmd: request.cmd, pid: event.event.value.pid, tag };
    } catch (thrown) {
      throw guestError(thrown);
    } finally {
      left.abort();
    }
    throw brokenStream();
  }

  /** The processes that the agent started. */
  async list(caller: Caller, id: SandboxId): Promise<rest.ProcessEntry[]> {
    const guest = await this.guests.open(caller, id);
    try {
      const { processes: found } = await guest.processes.list({});
      return found.map(({ pid, tag, config }) => ({
        pid,
        ...(tag && { tag }),
        cmd: config?.cmd ?? "",
        ...(config?.args.length && { args: config.args }),
      }));
    } catch (thrown) {
      throw guestError(thrown);
    }
  }

  /** Sends SIGKILL or SIGTERM. Throws `not_found` for an unknown process. */
  async signal(caller: Caller, id: SandboxId, selector: Selector, signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const guest = await this.guests.open(caller, id);
    try {
      const number = signal === "SIGKILL" ? Signal.SIGKILL : Signal.SIGTERM;
      await guest.processes.sendSignal({ process: { selector }, signal: number });
    } catch (thrown) {
      throw guestError(thrown);
    }
  }
}

/** One foreground command. */
class Run {
  readonly output = new Output();
  readonly #left = new AbortController();
  #pid: number | undefined;
  #killedFor: "timeout" | "gone" | undefined;

  constructor(
    readonly guest: Guest,
    readonly request: rest.ExecRequest,
  ) {}

  /** Reads to the end event and answers the exit code. */
  async finish(gone: AbortSignal): Promise<number> {
    const leave = () => this.#kill("gone");
    const timer = setTimeout(() => this.#kill("timeout"), this.request.timeout_sec * 1000);
    gone.addEventListener("abort", leave, { once: true });
    try {
      const exitCode = await this.#read();
      if (this.#killedFor) throw this.#stopped();
      return exitCode;
    } catch (thrown) {
      if (this.#killedFor) throw this.#stopped();
      throw guestError(thrown);
    } finally {
      clearTimeout(timer);
      gone.removeEventListener("abort", leave);
      this.#left.abort();
    }
  }

  async #read(): Promise<number> {
    for await (const { event } of this.guest.processes.start(startOf(this.request), { signal: this.#left.signal })) {
      const happened = event?.event;
      if (happened?.case === "start") this.#pid = happened.value.pid;
      else if (happened?.case === "data") this.output.add(happened.value.output);
      else if (happened?.case === "end") return happened.value.exitCode;
      if (this.#killedFor && this.#pid !== undefined) this.#sendKill();
    }
    throw brokenStream();
  }

  #kill(why: "timeout" | "gone"): void {
    this.#killedFor ??= why;
    setTimeout(() => this.#left.abort(), killGraceMs).unref();
    if (this.#pid !== undefined) this.#sendKill();
  }

  #sendKill(): void {
    const selector = { case: "pid", value: this.#pid! } as const;
    this.#pid = undefined;
    const sent = this.guest.processes.sendSignal({ process: { selector }, signal: Signal.SIGKILL });
    sent.catch(() => this.#left.abort());
  }

  #stopped(): WrennError {
    const { cmd, timeout_sec: limit } = this.request;
    const details = this.output.partial(partialBytes);
    return new WrennError("timeout", `"${cmd}" did not end within ${limit} s and was killed.`, {
      remedy: "Raise timeout_sec, or run it in the background.",
      ...(details && { details }),
    });
  }
}

const brokenStream = () =>
  new WrennError("agent_error", "The guest agent ended the command's stream without saying how the command ended.", {
    remedy: "Try again; if it repeats, destroy the sandbox and create a new one.",
  });

/** The agent's words for a command. */
export const startOf = (request: Pick<rest.ExecRequest, "cmd" | "args" | "envs" | "cwd">) => ({
  process: {
    cmd: request.cmd,
    args: request.args,
    envs: request.envs ?? {},
    ...(request.cwd && { cwd: request.cwd }),
  },
  stdin: false,
});
