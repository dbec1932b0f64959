import { statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { states } from "@wrenn/contract";
import { Gauge, Registry } from "prom-client";
import type { machineSize } from "../config.ts";
import type { Pool } from "../pool.ts";
import type { Sandboxes } from "../sandboxes.ts";

const mib = 2 ** 20;

/** What is measured. */
type Subject = {
  readonly sandboxes: Sandboxes;
  readonly pool: Pool;
  readonly machineSize: typeof machineSize;
};

/** What this host tells about itself, in Prometheus' text format; every figure is of the moment of the scrape. */
export class Metrics {
  readonly #registry = new Registry();

  constructor({ sandboxes, pool, machineSize }: Subject) {
    this.#byState(sandboxes);
    const { root } = sandboxes.kitchen.paths;
    const running = () => sandboxes.list().filter((record) => record.state === "running");
    const promised = (size: "vcpus" | "memoryMib") => running().reduce((sum, { spec }) => sum + spec[size], 0);
    const disk = async (blocks: "blocks" | "bavail") => {
      const found = await statfs(root);
      return found[blocks] * found.bsize;
    };
    this.#gauge("wrenn_host_vcpus_promised", "Processors that running sandboxes were given.", () => promised("vcpus"));
    const memory = "Memory that running sandboxes were given.";
    this.#gauge("wrenn_host_memory_promised_bytes", memory, () => promised("memoryMib") * mib);
    this.#gauge("wrenn_host_memory_bytes", "Memory of this machine.", () => machineSize().memoryMib * mib);
    this.#gauge("wrenn_host_memory_free_bytes", "Memory that nobody uses.", freemem);
    this.#gauge("wrenn_host_cpus", "Processors of this machine.", () => machineSize().cpuCores);
    this.#gauge("wrenn_host_disk_bytes", "Size of the data folder's disk.", () => disk("blocks"));
    this.#gauge("wrenn_host_disk_free_bytes", "What is free there.", () => disk("bavail"));
    this.#gauge("wrenn_host_pooled_machines", "Machines that wait for their sandbox.", () => pool.rested);
    const { snapshots, layers } = sandboxes.journal;
    this.#gauge("wrenn_host_snapshots", "Pauses and checkpoints on disk.", () => snapshots.all().length);
    this.#gauge("wrenn_host_disk_layers", "Disk layers of sandboxes and snapshots.", () => layers.all().length);
    this.#gauge("wrenn_process_resident_memory_bytes", "Memory this process holds.", () => process.memoryUsage.rss());
  }

  /** All of it, for a scraper. */
  async answer(): Promise<Response> {
    const text = await this.#registry.metrics();
    return new Response(text, { headers: { "content-type": this.#registry.contentType } });
  }

  #gauge(name: string, help: string, value: () => number | Promise<number>): void {
    const collect = async function (this: Gauge) {
      this.set(await value());
    };
    new Gauge({ name, help, registers: [this.#registry], collect });
  }

  #byState(sandboxes: Sandboxes): void {
    new Gauge({
      name: "wrenn_host_sandboxes",
      help: "Sandboxes of this host by state.",
      labelNames: ["state"],
      registers: [this.#registry],
      collect() {
        const found = sandboxes.list();
        for (const state of states) this.set({ state }, found.filter((record) => record.state === state).length);
      },
    });
  }
}
