import { type rest, WrennError } from "@wrenn/contract";
import type { Log } from "../../log.ts";
import type { ChannelStore, Held } from "../../store/fleet/channels.ts";
import type { Box } from "../people/secrets.ts";
import { send } from "./destination.ts";
import { type Config, compose, resourceOf } from "./messages.ts";

/** Waits between tries; after the last one a delivery is dead until somebody replays it. Eight hours in all. */
const retriesMs = [10_000, 30_000, 120_000, 600_000, 3_600_000, 7_200_000, 18_000_000] as const;
/** Deliveries at once: a destination that is slow must not keep the others waiting. */
const atOnce = 16;
/** A notification can be lost with its connection. */
const lookMs = 5_000;

/** What a channel's secrets are sealed for. */
export const sealedFor = "channel config";

/** What the courier stands on. */
export type CourierGround = { store: ChannelStore; box: Box; allowsPrivate: boolean; log: Log };

/**
 * Delivers what is due, on every replica: each holds what it delivers for a while, so that a replica that dies loses
 * nothing and the others do not deliver it as well.
 */
export class Courier implements AsyncDisposable {
  readonly #under = new Set<Promise<void>>();
  #timer: Timer | undefined;
  #listening: AsyncDisposable | undefined;
  #looking: Promise<void> | undefined;
  #again = false;
  #stopped = false;

  private constructor(readonly ground: CourierGround) {}

  /** Starts to deliver. */
  static async start(ground: CourierGround): Promise<Courier> {
    const courier = new Courier(ground);
    courier.#listening = await ground.store.listen(() => courier.look());
    courier.look();
    return courier;
  }

  /** Looks for deliveries that are due. */
  look(): void {
    if (this.#stopped) return;
    if (this.#looking) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#looking = this.#take()
      .catch((err) => this.ground.log.warn({ err }, "deliveries could not be read"))
      .finally(() => {
        this.#looking = undefined;
        if (this.#again) {
          this.#again = false;
          this.look();
        }
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#listening?.[Symbol.asyncDispose]();
    await this.#looking;
    await Promise.all(this.#under);
  }

  async #take(): Promise<void> {
    let nextMs: number | undefined = lookMs;
    try {
      while (!this.#stopped && this.#under.size < atOnce) {
        const held = await this.ground.store.hold(atOnce - this.#under.size);
        for (const one of held) this.#start(one);
        if (held.length === 0) break;
      }
      nextMs = await this.ground.store.nextMs();
    } finally {
      if (!this.#stopped) this.#timer = setTimeout(() => this.look(), Math.min(nextMs ?? lookMs, lookMs) + 10);
    }
  }

  #start(held: Held): void {
    const work = this.#deliver(held)
      .catch((err) => this.ground.log.warn({ err, delivery: held.id }, "a delivery's outcome was not written down"))
      .finally(() => {
        this.#under.delete(work);
        this.look();
      });
    this.#under.add(work);
  }

  async #deliver(held: Held): Promise<void> {
    const { store, log } = this.ground;
    const retryMs = retriesMs[held.attempts - 1];
    try {
      const status = await this.#send(held);
      if (status >= 200 && status < 300) return await store.delivered(held.id, status);
      await store.failed(held.id, { status, error: `The destination answered with status ${status}.`, retryMs });
    } catch (thrown) {
      const error = WrennError.from(thrown);
      log.debug({ err: thrown, delivery: held.id }, "a delivery failed");
      await store.failed(held.id, { error: error.message, retryMs });
    }
  }

  async #send({ id, event, channel, what }: Held): Promise<number> {
    const sealed = this.ground.box.open(channel.config, sealedFor);
    if (sealed === undefined) throw new WrennError("internal_error", "The channel's secrets cannot be decrypted.");
    const actor = what.actor ?? { type: "system", id: "", name: "" };
    const telling = { id, event, at: what.at, team: channel.teamId, actor, resource: resourceOf(event, what.resource) };
    const message = compose(channel.provider as rest.ChannelProvider, JSON.parse(sealed) as Config, telling);
    return await send(message, this.ground.allowsPrivate);
  }
}
