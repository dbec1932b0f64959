import { randomId, WrennError } from "@wrenn/contract";
import type { Listed, ObjectStore } from "./objects.ts";

/** A lease that nobody renewed for this long is void: its holder was killed. */
const voidAfterMs = 120_000;
const renewEveryMs = 20_000;
const askAgainMs = 500;

type Kind = "send" | "sweep";

/**
 * Who sends to a part of the store and who sweeps it: chunks that a sender finds there must not be swept before it has
 * written down that it needs them. Each writes its own lease first and looks for the other kind then, so that of two at
 * once at least one sees the other. Any number may send.
 */
export class Leases {
  constructor(
    readonly store: ObjectStore,
    /** The part of the store. */
    readonly part: string,
  ) {}

  /** Sends while nobody sweeps: waits for a sweep under way. */
  async sending<T>(signal: AbortSignal, work: (lease: Lease) => Promise<T>): Promise<T> {
    await using lease = await this.#take("send");
    while ((await this.#held("sweep")).length > 0) {
      signal.throwIfAborted();
      await Bun.sleep(askAgainMs);
    }
    return await work(lease);
  }

  /** Sweeps if nobody sends or sweeps; answers whether it did. */
  async sweeping(work: (lease: Lease) => Promise<void>): Promise<boolean> {
    await using lease = await this.#take("sweep");
    if ((await this.#held("send")).length > 0 || (await this.#held("sweep")).length > 1) return false;
    await work(lease);
    return true;
  }

  async #take(kind: Kind): Promise<Lease> {
    const lease = new Lease(this.store, `${this.part}/leases/${kind}-${randomId()}`);
    await lease.renew();
    return lease;
  }

  /** Leases that count. Their age is told by the store, whose clock wrote both; the newest of all is its present. */
  async #held(kind: Kind): Promise<Listed[]> {
    const all = await Array.fromAsync(this.store.list(`${this.part}/leases/`));
    const now = Math.max(...all.map(({ modifiedAtMs }) => modifiedAtMs));
    const old = all.filter(({ modifiedAtMs }) => now - modifiedAtMs > voidAfterMs);
    for (const { key } of old) await this.store.remove(key);
    return all.filter((one) => !old.includes(one) && one.key.startsWith(`${this.part}/leases/${kind}-`));
  }
}

/** One that is held: an object that is written again and again. */
class Lease implements AsyncDisposable {
  readonly #timer: Timer;
  #renewedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly store: ObjectStore,
    readonly key: string,
  ) {
    this.#timer = setInterval(() => void this.renew().catch(() => {}), renewEveryMs); // `check` tells of failures
    this.#timer.unref();
  }

  /** Writes it anew. */
  async renew(): Promise<void> {
    const begun = performance.now();
    await this.store.put(this.key, new Uint8Array([1]));
    this.#renewedAt = begun;
  }

  /** Throws `unavailable` when the lease may have become void meanwhile: what it protected must be looked at again. */
  check(): void {
    if (performance.now() - this.#renewedAt < voidAfterMs - renewEveryMs) return;
    throw new WrennError("unavailable", `the object store ${this.store.name} was out of reach for too long`, {
      remedy: "Try again: what was sent is not sent again.",
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.store.remove(this.key).catch(() => {}); // void by itself after a while
  }
}
