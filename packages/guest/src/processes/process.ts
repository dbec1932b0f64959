import { closeSync } from "node:fs";
import { WrennError } from "@wrenn/contract/core";
import { growPipe, pendingBytes, setNonBlocking } from "../native.ts";
import { type CommandRequest, spawnError } from "./command.ts";
import type { Channel } from "./frames.ts";
import { Input } from "./input.ts";
import { Output } from "./output.ts";
import { describeEnd, type End } from "./signals.ts";
import { type Command, spawnPiped } from "./spawn.ts";

/** What every kind of process offers. */
export interface GuestProcess {
  readonly pid: number;
  readonly request: CommandRequest;
  readonly tag: string | undefined;
  readonly output: Output;
  /** Set when the process left and all its output is in `output`. */
  readonly end: End | undefined;
  /** Called once, when `end` is set. */
  readonly onEnd: Set<() => void>;
  /** True once the deadline of {@link limit} has passed and ended the process. */
  expired: boolean;
  /** Resolves when the process's end of the pipe has taken `bytes`; calls keep their order. */
  writeStdin(bytes: Uint8Array): Promise<void>;
  writePty(bytes: Uint8Array): Promise<void>;
  closeStdin(): Promise<void>;
  resize(cols: number, rows: number): void;
  /** Sends `signal` to the process and everything that shares its group. */
  signal(signal: number): void;
}

/** Settings of a process besides its command. */
export type ProcessOptions = { request: CommandRequest; tag: string | undefined; stdin: boolean };

/** A process that has written this much gets a larger pipe: fewer switches between it and the agent. */
const largePipe = { fromBytes: 256 * 1024, bytes: 512 * 1024 };

/** What Bun may hold of a pipe's content between the kernel and a reader. */
const readAheadBytes = 512 * 1024;

/**
 * A child that leaves may leave others behind that hold its pipes, such as a server started with `&`. The end is told
 * once they have been quiet for `quietMs`, which lets a `tee` finish, or at the latest after `longestMs`; but never
 * before everything that the process itself wrote has been read. Their later output is discarded, so that they neither
 * block nor die of a closed pipe.
 */
const linger = { quietMs: 200, longestMs: 2_000, stepMs: 50 };

/** A process on pipes. */
export class PipedProcess implements GuestProcess {
  readonly pid: number;
  readonly request: CommandRequest;
  readonly tag: string | undefined;
  readonly output = new Output();
  readonly onEnd = new Set<() => void>();
  end: End | undefined;
  expired = false;
  #left: End | undefined;
  readonly #input: Input | undefined;
  readonly #pipes = new Set<number>();
  /** Pipes whose reader waits for more: what came before is in `output`. */
  #waiting = 0;
  #lastReadAt = 0;
  #read = 0;

  /** Starts `command`; throws `command_not_found`, `invalid_request` or `internal_error`. */
  constructor(command: Command, options: ProcessOptions) {
    this.request = options.request;
    this.tag = options.tag;
    try {
      const child = spawnPiped(command, options.stdin, (code, signal) => this.#onExit(describeEnd(code, signal)));
      this.pid = child.pid;
      this.#input = child.stdin === undefined ? undefined : new Input(child.stdin);
      void this.#pump("stdout", child.stdout);
      void this.#pump("stderr", child.stderr);
    } catch (thrown) {
      throw spawnError(options.request.cmd, thrown);
    }
  }

  writeStdin(bytes: Uint8Array): Promise<void> {
    return this.#stdin().write(bytes);
  }

  async writePty(): Promise<void> {
    throw new WrennError("internal_error", "the process has no terminal", { remedy: "Send stdin instead of pty." });
  }

  closeStdin(): Promise<void> {
    return this.#stdin().close();
  }

  resize(): void {
    throw new WrennError("invalid_state", "the process has no terminal", { remedy: "Start it with pty." });
  }

  signal(signal: number): void {
    signalGroup(this.pid, signal);
  }

  #stdin(): Input {
    if (this.#input) return this.#input;
    throw new WrennError("internal_error", "the process was started without stdin", {
      remedy: "Start it with stdin: true.",
    });
  }

  async #pump(channel: Channel, fd: number): Promise<void> {
    this.#pipes.add(fd);
    setNonBlocking(fd);
    const reader = Bun.file(fd).stream().getReader();
    let taken = 0;
    try {
      for (;;) {
        this.#waiting++;
        const piece = await reader.read();
        this.#waiting--;
        if (piece.done) break;
        if (this.end) continue;
        this.#lastReadAt = performance.now();
        this.#read += piece.value.length;
        if (taken < largePipe.fromBytes && taken + piece.value.length >= largePipe.fromBytes)
          growPipe(fd, largePipe.bytes);
        taken += piece.value.length;
        const room = this.output.append(channel, piece.value);
        if (room) await room;
      }
    } catch (thrown) {
      console.error(`reading ${channel} of process ${this.pid} failed`, thrown);
    }
    this.#pipes.delete(fd);
    closeSync(fd);
    if (this.#left && this.#pipes.size === 0) this.#finish();
  }

  #onExit(left: End): void {
    this.#left = left;
    this.#input?.abandon();
    if (this.#pipes.size === 0) queueMicrotask(() => this.#finish());
    else this.#lingerFrom(performance.now());
  }

  /** Decides every `stepMs` whether those who still hold the pipes are waited for any longer. */
  #lingerFrom(leftAt: number): void {
    const owed = this.#read + this.#pending() + readAheadBytes;
    let complete = false;
    const step = () => {
      if (this.end) return;
      const idle = this.#waiting === this.#pipes.size && this.#pending() === 0;
      complete ||= idle || this.#read >= owed;
      const now = performance.now();
      const quiet = idle && now - Math.max(leftAt, this.#lastReadAt) >= linger.quietMs;
      if (quiet || (complete && now - leftAt >= linger.longestMs)) this.#finish();
      else setTimeout(step, linger.stepMs);
    };
    setTimeout(step, linger.stepMs);
  }

  #pending(): number {
    let bytes = 0;
    for (const fd of this.#pipes) bytes += pendingBytes(fd);
    return bytes;
  }

  #finish(): void {
    if (this.end) return;
    this.end = this.#left;
    for (const tell of this.onEnd) tell();
  }
}

/** Sends `signal` to the group that `pid` leads; a group that is already gone is no error. */
export function signalGroup(pid: number, signal: number): void {
  try {
    process.kill(-pid, signal);
  } catch (thrown) {
    if ((thrown as { code?: string }).code !== "ESRCH") throw thrown;
  }
}

/** Kills `target` with its group when it is still alive after `timeoutMs`, whoever is or is not reading its output. */
export function limit(target: GuestProcess, timeoutMs: number): void {
  const timer = setTimeout(() => {
    target.expired = true;
    target.signal(9);
  }, timeoutMs);
  target.onEnd.add(() => clearTimeout(timer));
}
