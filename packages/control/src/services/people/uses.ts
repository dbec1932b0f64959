import type { Log } from "../../log.ts";

/** One write a minute for all uses together: an update per request is what limits the system this one replaces. */
const flushMs = 60_000;

/** When keys or sessions were last used, gathered and written down together. */
export class Uses implements AsyncDisposable {
  #used = new Map<string, Date>();
  readonly #timer: Timer;

  constructor(
    readonly write: (times: ReadonlyMap<string, Date>) => Promise<void>,
    readonly log: Log,
  ) {
    this.#timer = setInterval(() => void this.flush(), flushMs);
    this.#timer.unref();
  }

  /** Notes a use now. */
  note(id: string): void {
    this.#used.set(id, new Date());
  }

  /** Writes down what was noted. */
  async flush(): Promise<void> {
    const used = this.#used;
    if (used.size === 0) return;
    this.#used = new Map();
    await this.write(used).catch((cause) => this.log.warn({ err: cause }, "uses were not recorded"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }
}
