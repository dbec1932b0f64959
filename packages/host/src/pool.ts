import type { Logger } from "pino";
import type { Drivers } from "./drivers/ports.ts";
import { agentOf } from "./guest-agent.ts";
import type { Image } from "./images.ts";
import type { Layers } from "./layers.ts";
import { type Machine, raise } from "./machine.ts";
import type { Paths } from "./paths.ts";
import { randomToken, rehearse } from "./rehearsal.ts";
import { hasMemory } from "./room.ts";
import { isReady } from "./start.ts";
import type { Template } from "./templates.ts";
import type { Turns } from "./turns.ts";

/** A machine that waits for its sandbox: restored, rehearsed, stopped. `token` is what its agent asks for. */
export type Pooled = { readonly machine: Machine; readonly layer: string; readonly token: string };

/** One on the shelf, which may still rehearse. */
type Waiting = Pooled & {
  /** False when it failed at it, and is gone. */
  isReady: Promise<boolean>;
  isRested: boolean;
  isWanted: boolean;
};

/**
 * Rounds of rehearsal before a machine waits. Under emulation each makes the next faster, as translated code stays warm
 * in the VMM's process.
 */
const rounds = 5;

/** After a claim the new sandbox has the processors to itself for its first command; then the pool is filled again. */
const refillDelayMs = 300;

/** A template that nobody used for this long loses its machines when the pool is next filled. */
const idleMs = 10 * 60_000;

type Shelf = { readonly template: Template; readonly machines: Waiting[]; usedAtMs: number };

/** Machines kept ready for the templates in use. Filled in the background, one at a time, as far as memory goes. */
export class Pool implements AsyncDisposable {
  readonly #shelves = new Map<string, Shelf>();
  #filling: Promise<void> | undefined;
  #soon: Timer | undefined;
  #closed = false;

  constructor(
    readonly kitchen: { drivers: Drivers; paths: Paths; layers: Layers; starts: Turns },
    /** Machines per template; 0 keeps none. */
    readonly size: number,
    readonly readyTimeoutMs: number,
    readonly log: Logger,
  ) {}

  /**
   * A waiting machine of this template, if there is one; one that still rehearses stops at that. The caller owns it, and
   * unpins its layer once a row names it.
   */
  async take(template: Template): Promise<Pooled | undefined> {
    if (this.size === 0 || this.#closed) return undefined;
    const shelf = this.#shelves.get(template.key) ?? { template, machines: [], usedAtMs: 0 };
    shelf.usedAtMs = Date.now();
    this.#shelves.set(template.key, shelf);
    this.#fillSoon();
    for (let found = shelf.machines.shift(); found; found = shelf.machines.shift()) {
      found.isWanted = true;
      if (await found.isReady) return found;
    }
    return undefined;
  }

  /** How many machines wait, those that still rehearse among them. */
  get waiting(): number {
    return this.#all().length;
  }

  /** How many machines have rehearsed, and are claimed at once. */
  get rested(): number {
    return this.#all().filter(({ isRested }) => isRested).length;
  }

  /** Settles when no filling is under way. */
  async settled(): Promise<void> {
    while (this.#filling) await this.#filling;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#soon);
    await this.settled();
    for (const shelf of this.#shelves.values()) await this.#clear(shelf);
  }

  /** Not while machines are being started for somebody who waits: filling would take the processors from them. */
  #fillSoon(): void {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => (this.kitchen.starts.busy > 0 ? this.#fillSoon() : this.#fill()), refillDelayMs);
    this.#soon.unref();
  }

  #fill(): void {
    this.#filling ??= this.#fillAll()
      .catch((error) => this.log.warn({ error }, "the pool was not filled"))
      .finally(() => {
        this.#filling = undefined;
      });
  }

  async #fillAll(): Promise<void> {
    for (const [key, shelf] of this.#shelves)
      if (Date.now() - shelf.usedAtMs > idleMs) {
        this.#shelves.delete(key);
        await this.#clear(shelf);
      }
    for (const shelf of this.#shelves.values())
      while (!this.#closed && shelf.machines.length < this.size && hasMemory(shelf.template.frozen.memoryMib)) {
        if (this.kitchen.starts.busy > 0) return this.#fillSoon();
        await this.#add(shelf);
      }
  }

  async #add(shelf: Shelf): Promise<void> {
    const { layers } = this.kitchen;
    const layer = layers.reserve(shelf.template.key, undefined);
    layers.pin(layer);
    try {
      const machine = await raise(this.kitchen, { template: shelf.template }, () => layers.create(layer));
      const waiting = {
        machine,
        layer,
        token: randomToken(),
        isReady: Promise.resolve(true),
        isRested: false,
        isWanted: false,
      };
      const rehearsed = this.#rehearse(waiting, shelf.template.image);
      waiting.isReady = rehearsed.then(
        () => {
          waiting.isRested = true;
          return true;
        },
        async () => {
          remove(shelf.machines, waiting);
          await this.#release(waiting);
          return false;
        },
      );
      shelf.machines.push(waiting);
      await rehearsed;
      void machine.vm.exited.then(() => this.#drop(shelf, waiting));
    } catch (thrown) {
      layers.unpin(layer);
      await layers.collect();
      throw thrown;
    }
  }

  async #rehearse(waiting: Waiting, image: Image): Promise<void> {
    const { machine, token } = waiting;
    const agent = agentOf(machine);
    await machine.vm.cont();
    await agent.ready(this.readyTimeoutMs, machine.vm.exited);
    await rehearse(agent, { image, token, rounds, isWanted: () => waiting.isWanted });
    for (let round = 0; image.start && round < rounds && !waiting.isWanted; round++) await isReady(agent, image, token);
    await machine.vm.stop();
  }

  #all(): Waiting[] {
    return [...this.#shelves.values()].flatMap(({ machines }) => machines);
  }

  /** A waiting machine that ended by itself is no use to anyone. */
  #drop(shelf: Shelf, waiting: Waiting): void {
    if (remove(shelf.machines, waiting)) void this.#release(waiting); // else its sandbox looks after it
  }

  async #clear(shelf: Shelf): Promise<void> {
    for (const waiting of shelf.machines.splice(0)) await this.#release(waiting);
  }

  async #release({ machine, layer }: Pooled): Promise<void> {
    await machine.held.disposeAsync();
    this.kitchen.layers.unpin(layer);
    await this.kitchen.layers.collect();
  }
}

/** Takes `one` out of `list`; false when it is not in it. */
function remove<T>(list: T[], one: T): boolean {
  const at = list.indexOf(one);
  if (at >= 0) list.splice(at, 1);
  return at >= 0;
}
