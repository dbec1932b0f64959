import { freemem } from "node:os";
import type { Logger } from "pino";
import type { Layers } from "./layers.ts";
import { agentOf, type Machine, raise } from "./machine.ts";
import type { Kitchen } from "./recipes.ts";
import type { Template } from "./templates.ts";

/** A machine that waits for its sandbox: restored, its agent warm, stopped. */
export type Pooled = { readonly machine: Machine; readonly layer: string };

/**
 * Rounds of exercise before a machine waits. Under emulation each makes the next faster, as translated code stays warm in
 * the VMM's process.
 */
const warmUps = 3;

/** What must stay free on the host beyond a pooled machine's own memory, so that the pool never starves a sandbox. */
const reserveMib = 1024;

/** After a claim the new sandbox has the processors to itself for its first command; then the pool is filled again. */
const refillDelayMs = 300;

/** A template that nobody used for this long loses its machines when the pool is next filled. */
const idleMs = 10 * 60_000;

type Shelf = { readonly template: Template; readonly machines: Pooled[]; usedAtMs: number };

/** Machines kept ready for the templates in use. Filled in the background, one at a time, as far as memory goes. */
export class Pool implements AsyncDisposable {
  readonly #shelves = new Map<string, Shelf>();
  #filling: Promise<void> | undefined;
  #soon: Timer | undefined;
  #closed = false;

  constructor(
    readonly kitchen: Pick<Kitchen, "drivers" | "paths" | "starts"> & { layers: Layers },
    /** Machines per template; 0 keeps none. */
    readonly size: number,
    readonly readyTimeoutMs: number,
    readonly log: Logger,
  ) {}

  /** A waiting machine of this template, if there is one. The caller owns it, and unpins its layer once a row names it. */
  take(template: Template): Pooled | undefined {
    if (this.size === 0 || this.#closed) return undefined;
    const shelf = this.#shelves.get(template.key) ?? { template, machines: [], usedAtMs: 0 };
    shelf.usedAtMs = Date.now();
    this.#shelves.set(template.key, shelf);
    this.#fillSoon();
    return shelf.machines.shift();
  }

  /** How many machines wait. */
  get waiting(): number {
    return [...this.#shelves.values()].reduce((sum, shelf) => sum + shelf.machines.length, 0);
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
      while (!this.#closed && shelf.machines.length < this.size && this.#hasRoom(shelf.template)) {
        if (this.kitchen.starts.busy > 0) return this.#fillSoon();
        await this.#add(shelf);
      }
  }

  #hasRoom({ frozen }: Template): boolean {
    return freemem() / 2 ** 20 > frozen.memoryMib + reserveMib;
  }

  async #add(shelf: Shelf): Promise<void> {
    const { layers } = this.kitchen;
    const layer = layers.reserve(shelf.template.key, undefined);
    layers.pin(layer);
    try {
      const machine = await raise(this.kitchen, { template: shelf.template }, () => layers.create(layer));
      await this.#warm(machine, shelf.template.image.defaultUser).catch(async (thrown) => {
        await machine.held.disposeAsync();
        throw thrown;
      });
      const pooled = { machine, layer };
      shelf.machines.push(pooled);
      void machine.vm.exited.then(() => this.#drop(shelf, pooled));
    } catch (thrown) {
      layers.unpin(layer);
      await layers.collect();
      throw thrown;
    }
  }

  async #warm(machine: Machine, user: string): Promise<void> {
    const agent = agentOf(machine);
    await machine.vm.cont();
    await agent.ready(this.readyTimeoutMs, machine.vm.exited);
    for (let i = 0; i < warmUps; i++) await agent.exercise(user);
    await machine.vm.stop();
  }

  /** A waiting machine that ended by itself is no use to anyone. */
  #drop(shelf: Shelf, pooled: Pooled): void {
    const at = shelf.machines.indexOf(pooled);
    if (at < 0) return; // claimed: its sandbox looks after it
    shelf.machines.splice(at, 1);
    void this.#release(pooled);
  }

  async #clear(shelf: Shelf): Promise<void> {
    for (const pooled of shelf.machines.splice(0)) await this.#release(pooled);
  }

  async #release({ machine, layer }: Pooled): Promise<void> {
    await machine.held.disposeAsync();
    this.kitchen.layers.unpin(layer);
    await this.kitchen.layers.collect();
  }
}
