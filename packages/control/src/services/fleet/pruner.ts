import type { Log } from "../../log.ts";
import type { EventStore } from "../../store/events.ts";

/** Usage is told for 92 days back. */
const keptDays = 95;
const everyMs = 3_600_000;

/** Removes events and spans that are past their time. Every replica does; removing twice is harmless. */
export class Pruner implements Disposable {
  readonly #timer: Timer;

  constructor(store: EventStore, log: Log) {
    const prune = () => store.prune(keptDays).catch((err) => log.warn({ err }, "old events could not be removed"));
    this.#timer = setInterval(prune, everyMs);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
