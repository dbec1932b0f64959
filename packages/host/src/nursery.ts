import type { Logger } from "pino";
import type { Captured, Drivers } from "./drivers/ports.ts";
import { isIsolated } from "./egress/keep.ts";
import type { Layers } from "./layers.ts";
import { raise, rebase } from "./machine.ts";
import type { Paths } from "./paths.ts";
import type { Pooled } from "./pool.ts";
import type { SandboxRecord } from "./record.ts";
import { hasMemory } from "./room.ts";
import type { Templates } from "./templates.ts";
import type { Turns } from "./turns.ts";

/** Whoever asks for a fork creates its children right after; one that nobody claims by then was refused, or given up. */
const claimTimeoutMs = 30_000;

/** The machines of one checkpoint. One that could not be started is `undefined`. */
type Litter = { readonly isolated: boolean; readonly machines: Promise<Pooled | undefined>[]; readonly expiry: Timer };

/** What the one who takes a checkpoint tells of it. */
export type Expecting = {
  /** The source's disk layer is written to no more: its children's may be opened over it. */
  opens(): void;
  /** Memory and devices are taken. */
  takes(captured: Captured): void;
  /** The checkpoint fails: whatever was started for it goes. */
  cancel(): Promise<void>;
};

/**
 * Machines for the children of a fork, started while the checkpoint that they come from is being taken and written: each
 * waits, restored and stopped, to be claimed. A child that finds none is started from the checkpoint's files.
 */
export class Nursery implements AsyncDisposable {
  readonly #litters = new Map<string, Litter>();

  constructor(
    readonly kitchen: { drivers: Drivers; templates: Templates; layers: Layers; paths: Paths; starts: Turns },
    readonly log: Logger,
  ) {}

  /**
   * Begins up to `count` machines that start from the checkpoint `snapshot` of `source`: as many as may be started now,
   * beside what else is being started.
   */
  expect(snapshot: string, source: Readonly<SandboxRecord>, count: number): Expecting {
    const opened = Promise.withResolvers<void>();
    const captured = Promise.withResolvers<Captured>();
    for (const { promise } of [opened, captured]) promise.catch(() => {}); // whoever waits for it is told
    const { drivers, starts } = this.kitchen;
    const isolated = isIsolated(source.spec, drivers.nets);
    const machines: Litter["machines"] = [];
    while (drivers.vmm.restoreFrom && machines.length < count && hasMemory(source.spec.memoryMib)) {
      const turn = starts.takeFree();
      if (!turn) break;
      const raised = this.#raise(source, isolated, { opened: opened.promise, captured: captured.promise });
      machines.push(
        raised
          .catch((error) => void this.log.debug({ error, snapshot }, "a child is not started ahead"))
          .finally(() => turn[Symbol.dispose]()),
      );
    }
    const expire = () =>
      this.#drop(snapshot).catch((error) => this.log.warn({ error }, "children that nobody claimed stay"));
    const expiry = setTimeout(expire, claimTimeoutMs);
    expiry.unref();
    this.#litters.set(snapshot, { isolated, machines, expiry });
    return {
      opens: opened.resolve,
      takes: captured.resolve,
      cancel: () => {
        const gone = new Error("the checkpoint was not taken");
        opened.reject(gone);
        captured.reject(gone);
        return this.#drop(snapshot);
      },
    };
  }

  /**
   * A machine that starts from this checkpoint, if one waits or will in a moment. The caller owns it, and unpins its layer
   * once a row names it.
   */
  async take(snapshot: string, isolated: boolean): Promise<Pooled | undefined> {
    const litter = this.#litters.get(snapshot);
    if (litter?.isolated !== isolated) return undefined;
    for (let next = litter.machines.shift(); next; next = litter.machines.shift()) {
      const born = await next;
      if (!born) continue;
      const { paths } = this.kitchen;
      await rebase(paths, born.machine.home, paths.snapshot(snapshot)).catch(() => {}); // without, its first save is larger
      return born;
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const snapshot of this.#litters.keys()) await this.#drop(snapshot);
  }

  async #raise(
    { templateKey, layer: below, token }: Readonly<SandboxRecord>,
    isolated: boolean,
    told: { opened: Promise<void>; captured: Promise<Captured> },
  ): Promise<Pooled> {
    const { templates, layers } = this.kitchen;
    const template = await templates.restorable(templateKey);
    const layer = layers.reserve(template.key, below);
    layers.pin(layer);
    try {
      const machine = await raise(this.kitchen, { template, isolated, capturing: told.captured }, async () => {
        await told.opened;
        return layers.create(layer);
      });
      return { machine, layer, token };
    } catch (thrown) {
      layers.unpin(layer);
      await layers.collect();
      throw thrown;
    }
  }

  async #drop(snapshot: string): Promise<void> {
    const litter = this.#litters.get(snapshot);
    this.#litters.delete(snapshot);
    clearTimeout(litter?.expiry);
    for (const born of (await Promise.all(litter?.machines ?? [])).filter((one) => one !== undefined)) {
      await born.machine.held.disposeAsync();
      this.kitchen.layers.unpin(born.layer);
      await this.kitchen.layers.collect();
    }
  }
}
