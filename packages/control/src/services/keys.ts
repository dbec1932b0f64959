import { WrennError } from "@wrenn/contract";
import type { Log } from "../log.ts";
import { hashKey, type KeyStore } from "../store/keys.ts";

/** A revoked key stops within this time; without the cache every request would cost one more query. */
const cacheMs = 5_000;
/** Keys remembered at once; beyond it the oldest are asked for again. */
const cacheSize = 10_000;
/** One write a minute for all keys together: an update per request is what limits the system this one replaces. */
const flushMs = 60_000;

type Known = { id: string; team: string; name: string; until: number };

/** Turns API keys into teams. */
export class Keys {
  readonly #known = new Map<string, Known>();
  #used = new Map<string, Date>();
  readonly #timer: Timer;

  constructor(
    readonly store: KeyStore,
    readonly log: Log,
  ) {
    this.#timer = setInterval(() => void this.flush(), flushMs);
    this.#timer.unref();
  }

  /** The team that `key` opens. Throws `unauthorized`. */
  async open(key: string | null | undefined): Promise<{ id: string; team: string; name: string }> {
    const hash = key ? hashKey(key) : undefined;
    const found = hash ? (this.#cached(hash) ?? (await this.#load(hash))) : undefined;
    if (!found)
      throw new WrennError("unauthorized", key ? "The API key is not known." : "The request has no API key.", {
        remedy: "Send a valid key in the header X-API-Key; `wrenn up` prints the key of a local installation.",
      });
    this.#used.set(found.id, new Date());
    return found;
  }

  /** Writes down when keys were last used. */
  async flush(): Promise<void> {
    const used = this.#used;
    if (used.size === 0) return;
    this.#used = new Map();
    await this.store.used(used).catch((cause) => this.log.warn({ err: cause }, "the use of keys was not recorded"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }

  #cached(hash: string): Known | undefined {
    const known = this.#known.get(hash);
    return known && known.until > Date.now() ? known : undefined;
  }

  async #load(hash: string): Promise<Known | undefined> {
    const row = await this.store.find(hash);
    this.#known.delete(hash);
    if (!row) return undefined;
    if (this.#known.size >= cacheSize) this.#known.delete(this.#known.keys().next().value!);
    const known = { ...row, until: Date.now() + cacheMs };
    this.#known.set(hash, known);
    return known;
  }
}
