import type { Log } from "../log.ts";

/** Work that goes on when its client has gone; a stop of the program waits for it. */
export class Tasks {
  readonly #running = new Set<Promise<unknown>>();

  constructor(readonly log: Log) {}

  /** Runs `work` and remembers it until it ends. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const task = work();
    const done = task.then(
      () => {},
      () => {},
    );
    this.#running.add(done);
    void done.then(() => this.#running.delete(done));
    return task;
  }

  /** Runs `work` that nobody waits for; its failure goes to the log. */
  start(work: () => Promise<void>): void {
    this.run(work).catch((err) => this.log.warn({ err }, "background work failed"));
  }

  /** Resolves when nothing is running. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
