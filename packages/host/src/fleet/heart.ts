import { X509Certificate } from "node:crypto";
import { WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { heartbeat, type Kept, refresh } from "./identity.ts";

/** A host that is silent for three of these is given up (Wrenn control plane 3). */
const beatMs = 30_000;
/** An identity of seven days is renewed every day or so: a control plane that is away for days does no harm. */
const renewBeforeMs = 6 * 86_400_000;

/** What a heart tells. */
export type Signs = {
  /** The identity was renewed and kept. */
  onRenewed(kept: Kept): void;
  /** The host was taken out of the fleet. */
  onDeleted(): void;
};

/** Keeps a registered host known to its control plane: a heartbeat every 30 s, a new identity every day. */
export class Heart implements Disposable {
  readonly #timer: Timer;
  #kept: Kept;
  #beating = false;
  #isOver = false;

  constructor(
    readonly dir: string,
    kept: Kept,
    readonly signs: Signs,
    readonly log: Logger,
  ) {
    this.#kept = kept;
    this.#timer = setInterval(() => void this.beat(), beatMs);
    void this.beat();
  }

  /** One heartbeat, with what it finds to be due. */
  async beat(): Promise<void> {
    if (this.#beating || this.#isOver) return;
    this.#beating = true;
    try {
      if (expiryOf(this.#kept) - Date.now() < renewBeforeMs) await this.#renew();
      await heartbeat(this.#kept).catch((thrown) => this.#answer(WrennError.from(thrown)));
    } catch (error) {
      this.log.warn({ error }, "the control plane was not told that this host lives");
    } finally {
      this.#beating = false;
    }
  }

  /** Renews the identity now. Throws what the control plane answers. */
  async #renew(): Promise<void> {
    this.#kept = await refresh(this.dir, this.#kept);
    this.log.info({ expires: new Date(expiryOf(this.#kept)).toISOString() }, "identity renewed");
    this.signs.onRenewed(this.#kept);
  }

  async #answer(error: WrennError): Promise<void> {
    if (error.code === "not_found") {
      this.#isOver = true;
      this.log.error("this host was deleted from the fleet");
      return this.signs.onDeleted();
    }
    if (error.code !== "unauthorized" && error.code !== "forbidden") throw error;
    await this.#renew();
    await heartbeat(this.#kept);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearInterval(this.#timer);
  }
}

const expiryOf = (kept: Kept): number => new X509Certificate(kept.cert).validToDate.getTime();
