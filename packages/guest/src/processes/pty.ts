import { chownSync, closeSync, constants, openSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { WrennError } from "@wrenn/contract/core";
import { flowControl, pendingBytes } from "../native.ts";
import { type CommandRequest, spawnError } from "./command.ts";
import { Output } from "./output.ts";
import { type GuestProcess, signalGroup } from "./process.ts";
import { describeEnd, type End } from "./signals.ts";
import { type Command, spawnOnTerminal } from "./spawn.ts";

/** Settings of a process on a terminal besides its command. */
export type TerminalOptions = {
  request: CommandRequest;
  tag: string | undefined;
  size: { cols: number; rows: number };
};

/** What clients of the older agents set themselves, for the caller that sets nothing. */
const defaultTerm = "xterm-256color";

/**
 * What a process wrote reaches the terminal's other side a moment after it left: the end is told once nothing waits
 * there and it has been quiet for `quietMs`, or at the latest after `longestMs` when others go on writing to it.
 */
const linger = { quietMs: 40, longestMs: 2_000, stepMs: 20 };

/** A process on a terminal of its own. */
export class TerminalProcess implements GuestProcess {
  readonly pid: number;
  readonly request: CommandRequest;
  readonly tag: string | undefined;
  readonly output = new Output();
  readonly onEnd = new Set<() => void>();
  end: End | undefined;
  expired = false;
  #left: End | undefined;
  #held = false;
  #lastDataAt = 0;
  readonly #terminal: Bun.Terminal;
  /** The agent's side of the terminal, where it could be told from others. */
  readonly #master: number | undefined;

  /** Starts `command`; throws `command_not_found`, `invalid_request` or `internal_error`. */
  constructor(command: Command, { request, tag, size }: TerminalOptions) {
    this.request = request;
    this.tag = tag;
    const before = terminalsHeld();
    this.#terminal = new Bun.Terminal({
      ...size,
      data: (_terminal, bytes) => this.#onData(bytes),
    });
    const made = terminalsHeld().filter(({ fd, path }) => !before.some((held) => held.fd === fd && held.path === path));
    this.#master = made.find(({ path }) => path.endsWith("ptmx"))?.fd;
    try {
      giveTerminal(made.find(({ path }) => !path.endsWith("ptmx"))?.path, command.user.uid);
      const env = { ...command.env, TERM: command.env.TERM || defaultTerm };
      this.pid = spawnOnTerminal({ ...command, env }, this.#terminal, (code, signal) => {
        this.#left = describeEnd(code, signal);
        this.#lingerFrom(performance.now());
      });
    } catch (thrown) {
      this.#terminal.close();
      throw spawnError(request.cmd, thrown);
    }
  }

  async writeStdin(): Promise<void> {
    throw new WrennError("internal_error", "the process is on a terminal", { remedy: "Send pty instead of stdin." });
  }

  async writePty(bytes: Uint8Array): Promise<void> {
    this.#terminal.write(bytes);
  }

  async closeStdin(): Promise<void> {
    throw new WrennError("internal_error", "the process is on a terminal", {
      remedy: "Send Ctrl-D (byte 4) as pty input.",
    });
  }

  resize(cols: number, rows: number): void {
    this.#terminal.resize(cols, rows);
  }

  signal(signal: number): void {
    signalGroup(this.pid, signal);
  }

  #onData(bytes: Uint8Array): void {
    if (this.end) return;
    this.#lastDataAt = performance.now();
    const room = this.output.append("pty", bytes);
    if (room && !this.#held) void this.#holdUntil(room);
  }

  /** A terminal's output cannot be left unread, so its writers are stopped as Ctrl-S stops them, until readers caught up. */
  async #holdUntil(room: Promise<void>): Promise<void> {
    this.#held = true;
    this.#flow("stop");
    await room;
    this.#flow("start");
    this.#held = false;
  }

  #flow(action: "stop" | "start"): void {
    try {
      const fd = openSync(readlinkSync(`/proc/${this.pid}/fd/0`), constants.O_RDWR | constants.O_NOCTTY);
      flowControl(fd, action);
      closeSync(fd);
    } catch {
      // the process left or closed its terminal: there is no writer to stop
    }
  }

  #lingerFrom(leftAt: number): void {
    const step = async () => {
      await new Promise(setImmediate); // on a busy machine this timer may be due before what came earlier was read
      const now = performance.now();
      const quiet = !this.#isPending && now - Math.max(leftAt, this.#lastDataAt) >= linger.quietMs;
      if (!this.#held && (quiet || now - leftAt >= linger.longestMs)) this.#finish();
      else setTimeout(step, linger.stepMs);
    };
    setTimeout(step, linger.quietMs);
  }

  get #isPending(): boolean {
    return this.#master !== undefined && pendingBytes(this.#master) > 0;
  }

  #finish(): void {
    if (this.end) return;
    this.end = this.#left;
    this.#terminal.close();
    for (const tell of this.onEnd) tell();
  }
}

/** The sides of terminals that this process holds: `/dev/pts/N` is the program's, one that ends with `ptmx` the agent's. */
function terminalsHeld(): { fd: number; path: string }[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return /^\/dev\/(pts\/(\d+|ptmx)|ptmx)$/.test(path) ? [{ fd: Number(fd), path }] : [];
    } catch {
      return []; // the descriptor of the listing itself
    }
  });
}

/** Makes a terminal the user's, as login does: who may not open it cannot have it as controlling terminal, nor Ctrl-C. */
function giveTerminal(path: string | undefined, uid: number): void {
  if (path === undefined || process.getuid?.() !== 0) return;
  chownSync(path, uid, statSync(path).gid);
}
