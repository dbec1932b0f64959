import { mkdir, readdir, rename, rm } from "node:fs/promises";
import type { Logger } from "pino";
import { agentOf } from "../guest-agent.ts";
import type { Paths } from "../paths.ts";
import type { Sandbox } from "../sandbox.ts";
import type { Sandboxes } from "../sandboxes.ts";
import { type Usage, usageOf } from "./process.ts";
import { type GuestPoint, type Point, Series } from "./series.ts";

/** The finest tier of a series holds a point a second. */
const everyMs = 1_000;

/** How often a guest in use is asked for its own figures: each question costs an emulated guest some milliseconds. */
const askGuestEveryMs = 5_000;

/** A guest whose caller or reader was here within this time is asked; others sleep on. */
const interestMs = 30_000;

/** A guest that does not say by then is too busy to be asked. */
const guestTimeoutMs = 1_500;

/** How often the size of disk layers is looked at, and told when it changed by a MiB. */
const diskEveryMs = 10_000;

/**
 * A guest that computes is in use, also with nobody connected: its share of one processor, per cent, as a mean over some
 * ten seconds. An idle guest under emulation needs 1 to 3.
 */
const busyPct = 25;
const weightOfNow = 0.1;

/** Series are written down this often, so that a killed agent loses no more. */
const saveEveryMs = 5 * 60_000;

type Watched = {
  readonly series: Series;
  last: (Usage & { readonly pid: number; readonly atMs: number }) | undefined;
  guest: GuestPoint | undefined;
  guestAskedAtMs: number;
  readAtMs: number;
  diskBytes: number;
  diskAtMs: number;
  busyPct: number;
};

/**
 * Follows the load of every running sandbox, and keeps it while the sandbox is, paused or not, over restarts of the
 * agent too: one file each in `metrics/`.
 */
export class Sampler implements AsyncDisposable {
  readonly #watched = new Map<string, Watched>();
  readonly #timers: Timer[];
  readonly #stop = new AbortController();

  private constructor(
    readonly sandboxes: Sandboxes,
    readonly log: Logger,
    readonly usage: (pid: number) => Usage | undefined,
  ) {
    this.#timers = [setInterval(() => this.sample(), everyMs), setInterval(() => void this.#saveAll(), saveEveryMs)];
    sandboxes.watch((record) => {
      if (record.state === "paused") void this.save(record.id);
      if (record.state === "stopped") void this.#forget(record.id);
    }, this.#stop.signal);
  }

  /** Starts sampling; what a former agent wrote down of sandboxes that are gone is removed. */
  static async start(sandboxes: Sandboxes, log: Logger, usage = usageOf): Promise<Sampler> {
    const { paths } = sandboxes.kitchen;
    await mkdir(paths.loads, { recursive: true, mode: 0o700 });
    const sampler = new Sampler(sandboxes, log, usage);
    const present = new Set<string>(sandboxes.list().map((record) => record.id));
    for (const name of await readdir(paths.loads)) {
      if (present.has(name)) await sampler.load(name);
      else await rm(paths.load(name), { force: true });
    }
    return sampler;
  }

  /** Points of a sandbox from `startMs` to `endMs`; a running one is asked for its figures of this moment first. */
  async points(sandbox: Sandbox, startMs: number, endMs: number): Promise<Point[]> {
    const watched = this.#of(sandbox.id);
    watched.readAtMs = Date.now();
    if (sandbox.phase.at === "running" && endMs >= watched.readAtMs - everyMs) {
      await this.#askGuest(sandbox, watched);
      await this.#lookAtDisk(sandbox, watched);
      this.#sampleOne(sandbox, watched);
    }
    return watched.series.between(startMs, endMs);
  }

  /** Takes one point of every running sandbox. */
  sample(): void {
    for (const sandbox of this.sandboxes.all()) {
      if (sandbox.phase.at !== "running") continue;
      const watched = this.#of(sandbox.id);
      const now = Date.now();
      if (now - watched.diskAtMs >= diskEveryMs) void this.#lookAtDisk(sandbox, watched);
      const isInUse = sandbox.activeRequests > 0 || now - sandbox.record.lastActiveAtMs < interestMs;
      const isWanted = isInUse || now - watched.readAtMs < interestMs;
      if (isWanted && now - watched.guestAskedAtMs >= askGuestEveryMs) void this.#askGuest(sandbox, watched);
      this.#sampleOne(sandbox, watched);
    }
  }

  /** Stops sampling and writes everything down. */
  get #paths(): Paths {
    return this.sandboxes.kitchen.paths;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timers.forEach(clearInterval);
    this.#stop.abort();
    await this.#saveAll();
  }

  #sampleOne(sandbox: Sandbox, watched: Watched): void {
    const { phase, record } = sandbox;
    if (phase.at !== "running") return;
    const { pid } = phase.machine.vm;
    const usage = this.usage(pid);
    if (!usage) return;
    const now = { ...usage, pid, atMs: Date.now() };
    const before = watched.last?.pid === pid ? watched.last : undefined;
    if (before && now.atMs - before.atMs < everyMs / 2) return; // a share of too short a time says nothing
    watched.last = now;
    const cpuPct = before ? share(now.cpuMs - before.cpuMs, (now.atMs - before.atMs) * record.spec.vcpus) : 0;
    watched.busyPct += (cpuPct * record.spec.vcpus - watched.busyPct) * weightOfNow;
    if (watched.busyPct >= busyPct) sandbox.touch();
    const { guest, diskBytes } = watched;
    watched.series.add({ timestampMs: now.atMs, cpuPct, memBytes: now.memBytes, diskBytes, guest });
  }

  async #askGuest(sandbox: Sandbox, watched: Watched): Promise<void> {
    watched.guestAskedAtMs = Date.now();
    const { machine, record } = sandbox;
    watched.guest = await agentOf(machine)
      .load(record.token, guestTimeoutMs)
      .catch(() => watched.guest); // a guest that is too busy to answer keeps its last figures
  }

  async #lookAtDisk(sandbox: Sandbox, watched: Watched): Promise<void> {
    watched.diskAtMs = Date.now();
    const { layer } = sandbox.record;
    if (layer === undefined) return;
    watched.diskBytes = await this.sandboxes.kitchen.layers.usedBytes(layer);
    if (Math.abs(watched.diskBytes - (sandbox.record.diskUsedBytes ?? 0)) >= 2 ** 20 && sandbox.phase.at === "running")
      sandbox.tell({ diskUsedBytes: watched.diskBytes });
  }

  #of(id: string): Watched {
    let watched = this.#watched.get(id);
    if (!watched) {
      watched = {
        ...{ series: new Series(), last: undefined, guest: undefined },
        ...{ guestAskedAtMs: Date.now(), readAtMs: 0, diskBytes: 0, diskAtMs: 0, busyPct: 0 },
      };
      this.#watched.set(id, watched);
    }
    return watched;
  }

  /** Takes over what is written down of a sandbox, such as one that came from another host. */
  async load(id: string): Promise<void> {
    const file = Bun.file(this.#paths.load(id));
    if (!(await file.exists())) return;
    const series = Series.decode(await file.bytes());
    if (series) this.#watched.set(id, { ...this.#of(id), series });
    else this.log.warn({ id }, "the metrics that were kept cannot be read: they begin anew");
  }

  async #saveAll(): Promise<void> {
    for (const id of this.#watched.keys()) await this.save(id);
  }

  /** Writes the load of a sandbox down as it is now. */
  async save(id: string): Promise<void> {
    const watched = this.#watched.get(id);
    if (!watched) return;
    const fresh = this.#paths.load(`.${id}`);
    await Bun.write(fresh, watched.series.encode())
      .then(() => rename(fresh, this.#paths.load(id)))
      .catch((error) => this.log.warn({ id, error }, "metrics not written down"));
  }

  async #forget(id: string): Promise<void> {
    this.#watched.delete(id);
    await rm(this.#paths.load(id), { force: true });
  }
}

const share = (part: number, whole: number): number => (whole <= 0 ? 0 : Math.min(100, (100 * part) / whole));
