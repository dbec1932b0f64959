import type { hostagent } from "@wrenn/contract";

/** How grave an entry is, from least to most. */
export const levels = ["debug", "info", "warn", "error"] as const;
export type Level = (typeof levels)[number];

/** One line of a sandbox's log. `cursor` rises from entry to entry. */
export type Entry = Omit<hostagent.LogEntry, "$typeName" | "cursor" | "timestampMs" | "level" | "source"> & {
  readonly cursor: number;
  readonly timestampMs: number;
  readonly level: Level;
  readonly source: "host" | "process" | "console";
};

/** The newest of these are kept of each sandbox: some hours of a busy one, at most 4 MiB. */
const mostEntries = 1_000;

/** A guest may print lines of any length; people read the begin of one. */
const mostChars = 2_000;

/** What happened in and around one sandbox; the oldest entries go first. */
export class Book {
  #entries: Entry[] = [];
  #last = 0;

  /** Adds an entry, cut to a readable length. */
  add(entry: Omit<Entry, "cursor">): void {
    this.#last++;
    const { message } = entry;
    const shown = message.length > mostChars ? `${message.slice(0, mostChars)}…` : message;
    this.#entries.push({ ...entry, message: shown, cursor: this.#last });
    if (this.#entries.length > mostEntries) this.#entries.splice(0, this.#entries.length - mostEntries);
  }

  /** Entries after a cursor, oldest first: the first `limit` of them, or with `newest` the last. */
  after(cursor: number, { limit = mostEntries, newest = false } = {}): Entry[] {
    const all = this.#entries.filter((entry) => entry.cursor > cursor);
    return newest ? all.slice(-limit) : all.slice(0, limit);
  }

  /** All of it as text, for `decode`. */
  encode(): string {
    return JSON.stringify({ last: this.#last, entries: this.#entries });
  }

  /** The book that `encode` wrote; an empty one for anything else. */
  static decode(text: string): Book {
    const book = new Book();
    try {
      const { last, entries } = JSON.parse(text) as { last: number; entries: Entry[] };
      if (!Number.isInteger(last) || !Array.isArray(entries)) return book;
      book.#last = last;
      book.#entries = entries;
    } catch {
      // cut short by a full disk: the log begins anew
    }
    return book;
  }
}
