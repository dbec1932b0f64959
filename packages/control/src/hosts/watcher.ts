import type { hostagent } from "@wrenn/contract";
import type { Log } from "../log.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import type { Host } from "./host.ts";
import { isLeftBehind, isOrphan, isPausedReport, reflect } from "./reflect.ts";
import { record } from "./reports.ts";
import { Sweeper } from "./sweeper.ts";
import type { WatchGround } from "./watch-ground.ts";

/** A host speaks at least every 15 s (hostagent.proto, KeepAlive): after three silences the connection is dead. */
const silenceMs = 45_000;
/** Other replicas need to know that the host lives well before they would give it up. */
const noteEveryMs = 10_000;
const retry = { firstMs: 200, mostMs: 5_000 } as const;

/** Follows one host: its reports go into the rows, its absence marks them `missing`, and what both forgot is settled. */
export class Watcher implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #strangers = new Set<string>();
  readonly #log: Log;
  readonly #sweeper: Sweeper;
  readonly #done: Promise<void>;
  readonly #firstSync = Promise.withResolvers<void>();
  /** By the clock that nobody sets, as all times here. */
  #heard = performance.now();
  #noted = Number.NEGATIVE_INFINITY;
  #connected = false;

  constructor(
    readonly host: Host,
    readonly ground: WatchGround,
  ) {
    this.#log = ground.log.child({ host: host.id });
    this.#sweeper = new Sweeper(host, ground, () => (this.#connected ? undefined : performance.now() - this.#heard));
    this.#done = this.#follow();
  }

  /** Settles when the rows first agree with the host, or it is found to be away; at the latest after `mostMs`. */
  async synced(mostMs: number): Promise<void> {
    await Promise.race([this.#firstSync.promise, pause(mostMs, this.#stop.signal)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#sweeper[Symbol.asyncDispose]();
    await this.#done;
  }

  async #follow(): Promise<void> {
    let waitMs: number = retry.firstMs;
    while (!this.#stop.signal.aborted) {
      const before = this.#heard;
      const cause = await this.#session().then(
        () => undefined,
        (thrown) => thrown,
      );
      this.#firstSync.resolve();
      if (this.#stop.signal.aborted) return;
      waitMs = this.#heard > before ? retry.firstMs : Math.min(waitMs * 2, retry.mostMs);
      if (this.#connected) this.#log.warn({ err: cause }, "lost sight of the host");
      else this.#log.debug({ err: cause }, "the host does not answer");
      this.#connected = false;
      await pause(waitMs * (0.5 + Math.random() / 2), this.#stop.signal);
    }
  }

  /** One connection, from the present state of everything to its end. */
  async #session(): Promise<void> {
    const silence = new AbortController();
    const begun = performance.now();
    const silent = () => performance.now() - Math.max(this.#heard, begun) > silenceMs;
    const timer = setInterval(() => silent() && silence.abort(), 1_000);
    try {
      // Read before the host answers: what it then does not name, it did not have when the row already said so.
      const rows = new Map((await this.ground.store.onHost(this.host.id)).map((row) => [row.id, row]));
      const signal = AbortSignal.any([this.#stop.signal, silence.signal]);
      for await (const { event } of this.host.rpc.watchSandboxes({}, { signal })) {
        this.#noteLife();
        if (event.case === "changed") await this.#changed(event.value, rows);
        if (event.case === "synced") await this.#synced(rows);
      }
    } finally {
      clearInterval(timer);
    }
  }

  #noteLife(): void {
    this.#heard = performance.now();
    if (!this.#connected) this.#log.info({ address: this.host.address }, "watching the host");
    const isBack = !this.#connected;
    this.#connected = true;
    if (!isBack && this.#heard - this.#noted < noteEveryMs) return;
    this.#noted = this.#heard;
    this.ground.seen(this.host.id);
  }

  async #changed(report: hostagent.Sandbox, rows: Map<string, SandboxRow>): Promise<void> {
    const before = rows.get(report.id);
    rows.delete(report.id);
    // A host that is met again names all it has, and most of it is as it was: that costs no query.
    if (before && !reflect(before, report) && !isOrphan(before, report) && !isLeftBehind(before, report)) return;
    const row = await record(this.ground.store, report, { host: this.host.id });
    if (!row) this.#stranger(report.id);
    else if (isLeftBehind(row, report)) await this.#removePaused(report);
    else if (row.hostId !== this.host.id || isOrphan(row, report)) await this.#destroyOrphan(row, report);
  }

  /** Everything the host has was named: what is left in `rows` it does not have. Changes under way are the sweeper's. */
  async #synced(rows: Map<string, SandboxRow>): Promise<void> {
    for (const row of rows.values()) await this.#sweeper.settleAbsent(row);
    rows.clear();
    this.#firstSync.resolve();
  }

  /** Another installation's sandbox, or one whose row was lost with a database: not ours to destroy. */
  #stranger(id: string): void {
    if (this.#strangers.has(id)) return;
    this.#strangers.add(id);
    this.#log.warn({ sandbox: id }, "the host has a sandbox that is not in this database; it is left alone");
  }

  /** Its files are in the object store, where its row says it is. */
  async #removePaused({ id, run }: hostagent.Sandbox): Promise<void> {
    await this.host.rpc.destroySandbox({ id, pausedRun: run }, { timeoutMs: silenceMs }).catch((err) => {
      this.#log.warn({ err, sandbox: id }, "what a sandbox left behind could not be removed");
    });
  }

  async #destroyOrphan(row: SandboxRow, report: hostagent.Sandbox): Promise<void> {
    this.#log.warn(
      { sandbox: row.id, state: row.state },
      "the host has a sandbox that is over, or on another host; it is removed",
    );
    // A paused one may be on its way back here by now, as a later incarnation.
    const fence = isPausedReport(report) ? { pausedRun: report.run } : {};
    await this.host.rpc.destroySandbox({ id: row.id, ...fence }, { timeoutMs: silenceMs }).catch((err) => {
      this.#log.warn({ err, sandbox: row.id }, "an orphan could not be removed");
    });
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
