import type { SQL } from "bun";
import type { LoadedHost } from "../store/fleet/hosts.ts";
import type { Fleet } from "./fleet.ts";
import type { Host } from "./host.ts";
import { capacityOf } from "./placement.ts";
import { Unsettled } from "./unsettled.ts";
import type { WatchGround } from "./watch-ground.ts";
import { Watcher } from "./watcher.ts";

/** The database tells of every change at once; loads, which it does not tell, are read this often. */
const weighMs = 1_000;
/** How often everything is read, should a word of the database have been lost. */
const reloadMs = 10_000;
/** Machines grow and shrink, and their templates change. */
const askMs = 60_000;
const channel = "wrenn_hosts";

/** What the registry stands on. */
export type RegistryGround = Omit<WatchGround, "seen" | "unsettled"> & {
  fleet: Fleet;
  client: SQL;
  /** The way to a host; `undefined` for one that cannot be reached from here, such as one that never registered. */
  connect(row: LoadedHost): Host | undefined;
  /** Renews what this replica shows to hosts, when it is time. */
  renew(): Promise<void>;
  memoryOvercommit: number;
};

type Followed = { key: string; host: Host; watcher: Watcher };

/** Keeps this replica's picture of the fleet: reads the registry, tells {@link Fleet}, and follows every host. */
export class Registry implements AsyncDisposable {
  readonly #followed = new Map<string, Followed>();
  readonly #heard = new Set<string>();
  readonly #timers: Timer[] = [];
  #listening: AsyncDisposable | undefined;
  #reading: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  readonly #unsettled: Unsettled;

  private constructor(readonly ground: RegistryGround) {
    this.#unsettled = new Unsettled(ground.store, ground.timings.sweepMs / 2);
  }

  /** Reads the registry for the first time and begins to follow it. */
  static async start(ground: RegistryGround): Promise<Registry> {
    const registry = new Registry(ground);
    const { fleet, client, log } = ground;
    fleet.onUnknown = () => void registry.reload();
    fleet.onFacts = (id, facts) =>
      void registry.#describe(id, facts).catch((err) => log.warn({ err, host: id }, "a host could not be described"));
    await registry.#read();
    registry.#listening = await client.listen(channel, () => void registry.reload());
    registry.#timers.push(
      setInterval(() => void registry.#weigh(), weighMs),
      setInterval(() => void registry.reload(), reloadMs),
      setInterval(() => registry.#ask(), askMs),
    );
    registry.#ask();
    return registry;
  }

  /** Settles when every host has told what it has, at the latest after `mostMs`: hosts may be away. */
  async synced(mostMs: number): Promise<void> {
    await Promise.all([...this.#followed.values()].map(({ watcher }) => watcher.synced(mostMs)));
    await this.#noteHeard();
    await this.reload();
  }

  /** Follows a host anew at once: it can be connected to again. */
  async anew(id: string): Promise<void> {
    const followed = this.#followed.get(id);
    this.#followed.delete(id);
    await followed?.watcher[Symbol.asyncDispose]();
    await this.reload();
  }

  /** Reads the registry anew; calls meanwhile share one more reading. */
  async reload(): Promise<void> {
    if (this.#reading) {
      this.#again = true;
      return await this.#reading;
    }
    this.#reading = this.#readAll();
    await this.#reading;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#listening?.[Symbol.asyncDispose]();
    await this.#reading;
    await Promise.all([...this.#followed.values()].map(({ watcher }) => watcher[Symbol.asyncDispose]()));
  }

  /** Reads what is reserved of each host: of a large fleet everything else is too much for every second. */
  async #weigh(): Promise<void> {
    try {
      await this.#noteHeard();
      this.ground.fleet.weigh(await this.ground.hostStore.loads());
    } catch (err) {
      this.ground.log.warn({ err }, "the loads of hosts could not be read");
    }
  }

  async #readAll(): Promise<void> {
    try {
      do {
        this.#again = false;
        const begun = performance.now();
        await this.#noteHeard();
        await this.#read();
        // A thousand hosts that come at once are a thousand changes, each of which would have them all read.
        if (this.#again) await Bun.sleep(performance.now() - begun);
      } while (this.#again && !this.#stopped);
    } catch (err) {
      this.ground.log.warn({ err }, "the registry of hosts could not be read");
    } finally {
      this.#reading = undefined;
    }
  }

  /** One write for all hosts that were heard: a thousand hosts must not be a thousand statements. */
  async #noteHeard(): Promise<void> {
    if (this.#heard.size === 0) return;
    const ids = [...this.#heard];
    this.#heard.clear();
    const back = await this.ground.hostStore.seen(ids);
    for (const host of back) this.ground.log.info({ host }, "the host is online");
  }

  async #read(): Promise<void> {
    await this.ground.renew();
    const rows = await this.ground.hostStore.all();
    if (this.#stopped) return;
    const members = rows.flatMap((row) => {
      const host = this.#follow(row);
      return host ? [{ row, host }] : [];
    });
    this.ground.fleet.know(members);
    const here = new Set(members.map(({ host }) => host.id));
    for (const [id, { watcher }] of this.#followed)
      if (!here.has(id)) {
        this.#followed.delete(id);
        void watcher[Symbol.asyncDispose]();
      }
  }

  /** Follows a host, anew when the way to it has changed. */
  #follow(row: LoadedHost): Host | undefined {
    const key = `${row.address} ${row.certFingerprint}`;
    const known = this.#followed.get(row.id);
    if (known?.key === key) return known.host;
    if (known) void known.watcher[Symbol.asyncDispose]();
    this.#followed.delete(row.id);
    const host = this.ground.connect(row);
    if (!host) return undefined;
    const watcher = new Watcher(host, { ...this.ground, unsettled: this.#unsettled, seen: (id) => this.#seen(id) });
    this.#followed.set(row.id, { key, host, watcher });
    return host;
  }

  #seen(id: string): void {
    this.#heard.add(id);
    // One that is not known to be there takes no sandboxes until that is written.
    const member = this.ground.fleet.member(id);
    if (member?.row.status === "online") return;
    void this.reload();
    if (member) this.#askOne(member.host); // creates should find its templates known
  }

  #ask(): void {
    for (const { host } of this.ground.fleet.members) this.#askOne(host);
  }

  #askOne(host: Host): void {
    const { fleet, log } = this.ground;
    fleet.templates(host, true).catch((err) => log.debug({ err, host: host.id }, "the host does not answer"));
  }

  async #describe(id: string, facts: Parameters<Fleet["onFacts"]>[1]): Promise<void> {
    const memoryMib = Number(facts.memoryMib);
    await this.ground.hostStore.describe(id, {
      arch: facts.arch,
      cpuCores: facts.cpuCores,
      memoryMib,
      diskMib: Number(facts.diskMib),
      capacityMib: capacityOf(memoryMib, this.ground.memoryOvercommit),
      ...{ moveClass: facts.moveClass, storeId: facts.store },
    });
  }
}
