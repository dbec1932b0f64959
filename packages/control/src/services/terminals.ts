import { processes, type SandboxId, WrennError } from "@wrenn/contract";
import type { Guest } from "../hosts/guest.ts";
import type { Caller } from "./caller.ts";
import { type Selector, startOf } from "./commands.ts";
import { type Guests, guestError } from "./guests.ts";

/** A guest that takes no keystroke for this long is stuck. */
const actionMs = 5_000;
/** Successive keystrokes travel together up to this size: one call per key would cap how fast a paste goes. */
const joinBytes = 64 * 1024;
/** Input waiting for a program that does not read; beyond it the terminal is given up instead of losing some of it. */
const maxWaitingBytes = 4 * 1024 * 1024;

const { Signal } = processes;

/** What to start. */
export type Launch = { cmd: string; args: string[]; envs: Record<string, string>; cwd: string; user: string };
/** Size of a terminal in characters. */
export type Size = { cols: number; rows: number };
/** What a process does, as the agent tells it. */
export type Happening = processes.ProcessEvent["event"];

type Action = { input: Uint8Array } | { resize: Size } | { kill: true };

/** Processes that somebody looks at while they run. */
export class Terminals {
  constructor(readonly guests: Guests) {}

  /** Starts a command. */
  async run(caller: Caller, id: SandboxId, launch: Launch, signal: AbortSignal): Promise<Live> {
    const guest = await this.guests.open(caller, id, launch.user);
    return new Live(guest, guest.processes.start(startOf(launch), { signal }), {});
  }

  /** Starts a command in a terminal of its own, under a new tag. */
  async terminal(caller: Caller, id: SandboxId, launch: Launch & Size, signal: AbortSignal): Promise<Live> {
    const guest = await this.guests.open(caller, id, launch.user);
    const tag = `pty-${crypto.randomUUID().slice(0, 8)}`;
    const { cols, rows } = launch;
    const { process } = startOf({ ...launch, envs: { TERM: "xterm-256color", ...launch.envs } });
    const events = guest.processes.start({ process, pty: { size: { cols, rows } }, tag }, { signal });
    return new Live(guest, events, { tag });
  }

  /** Looks at a process that runs already. */
  async attach(caller: Caller, id: SandboxId, selector: Selector, signal: AbortSignal): Promise<Live> {
    const guest = await this.guests.open(caller, id);
    const tag = selector.case === "tag" ? selector.value : undefined;
    return new Live(guest, guest.processes.connect({ process: { selector } }, { signal }), { tag });
  }
}

/** A process that is being looked at. Input, resizing and killing reach it in the order they were asked for. */
export class Live {
  readonly #waiting: Action[] = [];
  #waitingBytes = 0;
  #pumping = false;
  #pid: number | undefined;
  /** Settles when the guest knows the process, or there is none to wait for any more. */
  readonly #known = Promise.withResolvers<void>();

  constructor(
    readonly guest: Guest,
    readonly stream: AsyncIterable<{ event?: processes.ProcessEvent | undefined }>,
    readonly known: { tag?: string | undefined },
  ) {}

  /** Everything that happens, from `start` to `end`. Throws what a client may be told. */
  async *happenings(): AsyncGenerator<Happening> {
    try {
      for await (const { event } of this.stream) {
        if (!event) continue;
        this.#known.resolve();
        if (event.event.case === "start") this.#pid = event.event.value.pid;
        yield event.event;
      }
    } catch (thrown) {
      throw guestError(thrown);
    } finally {
      this.#known.resolve();
    }
  }

  /** Queues an action; `failed` is told when it does not arrive. Throws `too_large` when too much input waits. */
  act(action: Action, failed: (error: WrennError) => void): void {
    const last = this.#waiting.at(-1);
    const size = "input" in action ? action.input.length : 0;
    if (this.#waitingBytes + size > maxWaitingBytes)
      throw new WrennError("too_large", "The program does not read its input.", { remedy: "Send less at once." });
    this.#waitingBytes += size;
    if ("input" in action && last && "input" in last && last.input.length + size <= joinBytes)
      last.input = Buffer.concat([last.input, action.input]);
    else this.#waiting.push(action);
    if (!this.#pumping) void this.#pump(failed);
  }

  async #pump(failed: (error: WrennError) => void): Promise<void> {
    this.#pumping = true;
    await this.#known.promise; // what is typed before the process is there must not be lost
    try {
      for (let action = this.#waiting.shift(); action; action = this.#waiting.shift()) {
        if ("input" in action) this.#waitingBytes -= action.input.length;
        await this.#send(action).catch((thrown) => failed(guestError(thrown)));
      }
    } finally {
      this.#pumping = false;
    }
  }

  async #send(action: Action): Promise<void> {
    const selector = this.#selector();
    const options = { timeoutMs: actionMs };
    const { processes: rpc } = this.guest;
    if ("input" in action)
      await rpc.sendInput({ process: { selector }, input: { input: { case: "pty", value: action.input } } }, options);
    else if ("resize" in action) await rpc.update({ process: { selector }, pty: { size: action.resize } }, options);
    else await rpc.sendSignal({ process: { selector }, signal: Signal.SIGKILL }, options);
  }

  #selector(): Selector {
    if (this.#pid !== undefined) return { case: "pid", value: this.#pid };
    if (this.known.tag !== undefined) return { case: "tag", value: this.known.tag };
    throw new WrennError("invalid_state", "The process has not started yet.", { remedy: "Wait for its start." });
  }
}
