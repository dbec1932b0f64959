import { states } from "@wrenn/contract";
import { Gauge, Histogram, Registry } from "prom-client";

/** From an answer out of memory to a create that boots a template first; seconds. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180];

/** A request that was answered. `route` is the pattern it matched, never its path: paths have no end. */
export type Answered = { method: string; route: string; status: number; ms: number };

/** What the program measures about itself, in Prometheus' text format. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #requests: Histogram;

  /** `counts` answers how many sandboxes are in each state; it is asked at every scrape. */
  constructor(counts: () => Promise<ReadonlyMap<string, number>>) {
    this.#requests = new Histogram({
      name: "wrenn_http_request_duration_seconds",
      help: "Time from a request to the head of its answer.",
      labelNames: ["method", "route", "status"],
      buckets,
      registers: [this.#registry],
    });
    new Gauge({
      name: "wrenn_sandboxes",
      help: "Sandboxes of the whole installation by state; those that ended are left out.",
      labelNames: ["state"],
      registers: [this.#registry],
      async collect() {
        const found = await counts();
        for (const state of states) if (state !== "stopped") this.set({ state }, found.get(state) ?? 0);
      },
    });
    new Gauge({
      name: "wrenn_process_resident_memory_bytes",
      help: "Memory this process holds.",
      registers: [this.#registry],
      collect() {
        this.set(process.memoryUsage.rss());
      },
    });
  }

  /** Counts a request. */
  answered({ method, route, status, ms }: Answered): void {
    this.#requests.observe({ method, route, status }, ms / 1_000);
  }

  /** Everything, and its media type. */
  async text(): Promise<{ type: string; text: string }> {
    return { type: this.#registry.contentType, text: await this.#registry.metrics() };
  }
}
