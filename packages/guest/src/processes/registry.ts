import { WrennError } from "@wrenn/contract/core";
import { follow } from "./history.ts";
import type { GuestProcess } from "./process.ts";

/** How a caller names a process. */
export type Selector = { pid: number } | { tag: string };

/** How long a caller that lost its stream can still learn how the process ended (E2B's agent: 30 s). */
const endedForMs = 30_000;

/** Ended processes that are remembered at most; a machine that starts thousands a second must not grow by them. */
const maxEnded = 256;

/** Every process started through this agent that is alive, and those that ended a moment ago. */
export class Registry {
  readonly #live = new Map<number, GuestProcess>();
  readonly #ended = new Map<number, { process: GuestProcess; until: number }>();
  readonly #tags = new Map<string, GuestProcess>();
  #sweep: Timer | undefined;

  /** The processes that are alive, oldest first. */
  list(): GuestProcess[] {
    return [...this.#live.values()];
  }

  /** Keeps `process` for as long as it lives, and a moment longer. */
  add(process: GuestProcess): void {
    this.#ended.delete(process.pid);
    this.#live.set(process.pid, process);
    follow(process);
    if (process.tag !== undefined) this.#tags.set(process.tag, process);
    if (process.end) this.#bury(process);
    else process.onEnd.add(() => this.#bury(process));
  }

  /** A process that is alive; throws `not_found`. */
  live(selector: Selector): GuestProcess {
    const process = this.#find(selector);
    if (process && !process.end) return process;
    throw notFound(selector);
  }

  /** A process that is alive or ended a moment ago; throws `not_found`. */
  recent(selector: Selector): GuestProcess {
    const process = this.#find(selector);
    if (process) return process;
    throw notFound(selector);
  }

  /** Forgets every process that has ended. */
  forgetEnded(): void {
    while (this.#ended.size > 0) this.#forgetOldest();
  }

  /** Ends every process at once: the agent stops. */
  killAll(): void {
    for (const process of this.#live.values()) process.signal(9);
    clearTimeout(this.#sweep);
  }

  #find(selector: Selector): GuestProcess | undefined {
    if ("tag" in selector) return this.#tags.get(selector.tag);
    return this.#live.get(selector.pid) ?? this.#ended.get(selector.pid)?.process;
  }

  #bury(process: GuestProcess): void {
    this.#live.delete(process.pid);
    if (process.output.isRead) process.output.clear();
    this.#ended.set(process.pid, { process, until: performance.now() + endedForMs });
    while (this.#ended.size > maxEnded) this.#forgetOldest();
    this.#sweep ??= setTimeout(() => this.#forgetOld(), endedForMs);
  }

  #forgetOldest(): void {
    const [oldest] = this.#ended.values();
    if (!oldest) return;
    const { pid, tag } = oldest.process;
    this.#ended.delete(pid);
    if (tag !== undefined && this.#tags.get(tag) === oldest.process) this.#tags.delete(tag);
  }

  /** One timer for all, and none when nothing is left: an idle agent sleeps. */
  #forgetOld(): void {
    this.#sweep = undefined;
    const now = performance.now();
    for (const { until } of this.#ended.values()) {
      if (until > now) {
        this.#sweep = setTimeout(() => this.#forgetOld(), until - now);
        return;
      }
      this.#forgetOldest();
    }
  }
}

function notFound(selector: Selector): WrennError {
  const named = "tag" in selector ? `tag '${selector.tag}'` : `pid ${selector.pid}`;
  return new WrennError("not_found", `process with ${named} not found`, {
    remedy: "List the processes; it may have ended.",
  });
}
