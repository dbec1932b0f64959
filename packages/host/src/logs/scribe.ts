import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import type { Logger } from "pino";
import { agentOf } from "../guest-agent.ts";
import type { SandboxRecord } from "../record.ts";
import type { Sandbox } from "../sandbox.ts";
import type { Sandboxes } from "../sandboxes.ts";
import { Book, type Entry } from "./book.ts";
import { ConsoleReader } from "./console.ts";

/** How often consoles are looked at, so that what a flood leaves on the disk stays small. */
const consoleEveryMs = 1_000;

/** How often a guest in use is asked for its processes; another one only when somebody reads its log. */
const askGuestEveryMs = 5_000;
const interestMs = 30_000;
const guestTimeoutMs = 1_500;

type Followed = {
  book: Book;
  state: string;
  console: { home: string; reader: ConsoleReader } | undefined;
  /** The last happening of the guest that is in the book. */
  seq: number;
  seenAtMs: number;
  askedAtMs: number;
};

/**
 * Keeps a log of each sandbox: its life as this host sees it, the processes in it as its guest tells them, and what its
 * kernel prints. Bounded, kept while the sandbox is, over restarts of the agent too: one file each in `journals/`.
 */
export class Scribe implements AsyncDisposable {
  readonly #followed = new Map<string, Followed>();
  readonly #timer: Timer;
  readonly #stop = new AbortController();

  private constructor(
    readonly sandboxes: Sandboxes,
    readonly dir: string,
    readonly log: Logger,
  ) {
    this.#timer = setInterval(() => this.look(), consoleEveryMs);
    sandboxes.watch((record) => this.#changed(record), this.#stop.signal);
  }

  /** Starts keeping logs; those of sandboxes that are gone are removed. */
  static async start(sandboxes: Sandboxes, log: Logger): Promise<Scribe> {
    const dir = `${sandboxes.kitchen.paths.root}/journals`;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const scribe = new Scribe(sandboxes, dir, log);
    const present = new Map(sandboxes.list().map((record) => [record.id as string, record]));
    for (const name of await readdir(dir)) {
      const record = present.get(name);
      if (record) scribe.#of(record, Book.decode(await Bun.file(`${dir}/${name}`).text()));
      else await rm(`${dir}/${name}`, { force: true });
    }
    return scribe;
  }

  /** Entries of a sandbox after a cursor; a running one is asked for the newest first. */
  async entries(sandbox: Sandbox, after: number, which: { limit?: number; newest?: boolean } = {}): Promise<Entry[]> {
    const followed = this.#of(sandbox.record);
    if (sandbox.phase.at === "running") {
      this.#readConsole(sandbox, followed);
      await this.#askGuest(sandbox, followed);
    }
    return followed.book.after(after, which);
  }

  /** Looks at every console, and asks the guests that are in use. */
  look(): void {
    const now = Date.now();
    for (const sandbox of this.sandboxes.all()) {
      if (sandbox.phase.at !== "running") continue;
      const followed = this.#of(sandbox.record);
      this.#readConsole(sandbox, followed);
      const isInUse = sandbox.activeRequests > 0 || now - sandbox.record.lastActiveAtMs < interestMs;
      if (isInUse && now - followed.askedAtMs >= askGuestEveryMs) void this.#askGuest(sandbox, followed);
    }
  }

  /** Stops, and writes everything down. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    for (const id of this.#followed.keys()) await this.#save(id);
  }

  #changed(record: Readonly<SandboxRecord>): void {
    const { id, state, reason } = record;
    if (state === "stopped") {
      this.#followed.delete(id);
      return void rm(`${this.dir}/${id}`, { force: true });
    }
    const followed = this.#of(record);
    if (followed.state === state) return;
    followed.state = state;
    const level = state === "error" ? "error" : "info";
    this.#tell(followed, { level, message: reason ? `${state}: ${reason}` : state, fields: { state } });
    if (state === "paused" || state === "error") void this.#save(id);
  }

  #tell(followed: Followed, entry: Pick<Entry, "level" | "message" | "fields">): void {
    followed.book.add({ ...entry, source: "host", timestampMs: Date.now() });
  }

  #readConsole({ phase }: Sandbox, followed: Followed): void {
    if (phase.at !== "running") return;
    const { home } = phase.machine;
    if (followed.console?.home !== home) {
      const reader = new ConsoleReader(`${this.sandboxes.kitchen.paths.machine(home)}/console.log`);
      followed.console = { home, reader };
    }
    for (const message of followed.console.reader.lines())
      followed.book.add({ source: "console", level: "info", message, fields: {}, timestampMs: Date.now() });
  }

  async #askGuest(sandbox: Sandbox, followed: Followed): Promise<void> {
    followed.askedAtMs = Date.now();
    const { machine, record } = sandbox;
    const ask = async (after: number) => {
      const said = await agentOf(machine).happenings(record.token, after, guestTimeoutMs);
      return read(said);
    };
    const told = await ask(followed.seq).catch(() => undefined); // busy, or its image is older than logs are
    if (!told) return;
    const isBack = told.last < followed.seq; // rolled back: it counts from an earlier number
    if (isBack) Object.assign(followed, { seq: 0, seenAtMs: followed.seenAtMs + 1 });
    const { happenings } = isBack ? await ask(0).catch(() => told) : told;
    for (const { seq, ...entry } of happenings) {
      // What happened in the template, or in the sandbox this one was forked from, is not its own; nor is what was told.
      const isOwn = entry.timestampMs >= record.createdAtMs && entry.timestampMs >= followed.seenAtMs;
      if (seq <= followed.seq || !isOwn) continue;
      followed.seq = seq;
      followed.seenAtMs = entry.timestampMs;
      followed.book.add({ ...entry, source: "process" });
    }
  }

  #of({ id, state }: Readonly<SandboxRecord>, known?: Book): Followed {
    const found = this.#followed.get(id);
    if (found) return found;
    const book = known ?? this.#brought(id);
    const newest = book.after(0).findLast(({ source }) => source === "process");
    const isKnown = book.after(0, { limit: 1 }).length > 0;
    const followed = {
      ...{ book, state: isKnown ? state : "", console: undefined },
      ...{ seq: 0, seenAtMs: newest ? newest.timestampMs + 1 : 0, askedAtMs: Date.now() },
    };
    this.#followed.set(id, followed);
    return followed;
  }

  /** The log that a sandbox brought from another host; an empty one of a new sandbox. */
  #brought(id: string): Book {
    const path = `${this.dir}/${id}`;
    return existsSync(path) ? Book.decode(readFileSync(path, "utf8")) : new Book();
  }

  async #save(id: string): Promise<void> {
    const followed = this.#followed.get(id);
    if (!followed) return;
    const fresh = `${this.dir}/.${id}`;
    await Bun.write(fresh, followed.book.encode())
      .then(() => rename(fresh, `${this.dir}/${id}`))
      .catch((error) => this.log.warn({ id, error }, "a sandbox's log was not written down"));
  }
}

type Told = { happenings: (Omit<Entry, "cursor" | "source"> & { seq: number })[]; last: number };

/** What a guest said, as far as it makes sense: it is hostile. */
function read(said: unknown): Told {
  const { happenings, last } = (said ?? {}) as { happenings?: unknown; last?: unknown };
  const list = Array.isArray(happenings) ? happenings.slice(-1_000) : [];
  const read = list.flatMap((one: unknown) => {
    const { seq, atMs, level, message, fields } = (one ?? {}) as Record<string, unknown>;
    if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(atMs) || typeof message !== "string") return [];
    const pairs = Object.entries((fields ?? {}) as object).slice(0, 8);
    const texts = Object.fromEntries(pairs.map(([name, value]) => [name.slice(0, 64), String(value).slice(0, 256)]));
    const grave = level === "warn" ? ("warn" as const) : ("info" as const);
    return [{ seq: seq as number, timestampMs: atMs as number, level: grave, message, fields: texts }];
  });
  return { happenings: read, last: Number.isSafeInteger(last) ? (last as number) : 0 };
}
