import { type LogEntry, type LogOptions, Sandbox } from "wrenn";
import { whileSeen } from "#lib/api/seen.ts";
import { session } from "#lib/api/session.svelte.ts";

/** Entries that are kept: more than anybody reads, few enough to filter at each key. */
const maxKept = 5_000;
/** A burst of entries changes the page once. */
const settleMs = 50;

/** How grave an entry is. */
export type Level = NonNullable<LogOptions["level"]>;
/** The levels there are, the least grave first. */
export const levels: readonly Level[] = ["debug", "info", "warn", "error"];

/** The log of one sandbox as it grows. The stream goes on behind the last entry when the server was away. */
export class LiveLog {
  entries = $state.raw<readonly LogEntry[]>([]);
  /** Undefined until something came, or nothing was to come. */
  state = $state<"loading" | "live" | "ended">("loading");
  error = $state.raw<unknown>(undefined);
  readonly #stop: () => void;
  #waiting: LogEntry[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly id: string,
    readonly level: Level,
  ) {
    this.#stop = whileSeen((signal) => void this.#follow(signal));
  }

  /** Ends the stream. */
  close(): void {
    this.#stop();
    clearTimeout(this.#timer);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const options = { client: session.client, level: this.level, signal };
    try {
      // What is there already goes on behind its last entry.
      if (this.state === "loading")
        this.entries = (await Sandbox.logs(this.id, { ...options, limit: 1_000 })).filter(isOthers);
      this.state = "live";
      const cursor = this.entries.at(-1)?.cursor ?? 0;
      for await (const entry of Sandbox.followLogs(this.id, { ...options, cursor })) this.#take(entry);
      if (!signal.aborted) this.state = "ended";
    } catch (thrown) {
      if (!signal.aborted) this.error = thrown;
    }
  }

  #take(entry: LogEntry): void {
    if (!isOthers(entry)) return;
    this.#waiting.push(entry);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.entries = [...this.entries, ...this.#waiting.splice(0)].slice(-maxKept);
    }, settleMs);
  }
}

/** What the dashboard itself runs to show processes and ports is nothing that happened in the sandbox. */
const isOthers = ({ fields }: LogEntry): boolean => !fields.tag?.startsWith("dashboard-");

/** An entry as one line of a file. */
export const lineOfLog = ({ at, level, source, message, fields }: LogEntry): string =>
  [at.toISOString(), level, source, message, ...Object.entries(fields).map(([name, value]) => `${name}=${value}`)].join(
    " ",
  );
