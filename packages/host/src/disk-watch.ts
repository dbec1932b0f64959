import { statfs } from "node:fs/promises";
import type { SandboxId } from "@wrenn/contract";
import type { Logger } from "pino";
import { minFreeDiskMib } from "./room.ts";
import type { Sandbox } from "./sandbox.ts";
import type { Sandboxes } from "./sandboxes.ts";

/** A fast disk takes half a gigabyte in this time, which is what is kept free. */
const lookEveryMs = 250;

const reason = "the host's disk is nearly full: paused before its files could be lost";

/** Gives free disk under a folder, MiB. */
export type FreeMib = (path: string) => Promise<number>;

const freeMib: FreeMib = async (path) => {
  const { bavail, bsize } = await statfs(path);
  return Math.floor((bavail * bsize) / 2 ** 20);
};

/**
 * Keeps sandboxes from filling the host's disk: a disk layer that cannot grow is lost, since the kernel drops it whole
 * (dm-snapshot) or the guest's file system breaks. When room is short, those whose layers grow are paused, the fastest
 * first, until it is not. One that cannot even be paused stands still until there is room.
 */
export class DiskWatch implements AsyncDisposable {
  readonly #sizes = new Map<SandboxId, number>();
  readonly #held = new Set<Sandbox>();
  readonly #timer: Timer;
  #looking: Promise<void> | undefined;

  constructor(
    readonly sandboxes: Sandboxes,
    readonly log: Logger,
    readonly free: FreeMib = freeMib,
  ) {
    this.#timer = setInterval(() => void this.look(), lookEveryMs);
    this.#timer.unref();
  }

  /** Looks once, and does what is due. */
  look(): Promise<void> {
    this.#looking ??= this.#look()
      .catch((error) => this.log.error({ error }, "the disk could not be watched"))
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    const layers = `${this.sandboxes.kitchen.paths.root}/layers`; // which may be a file system of its own
    const free = await this.free(layers);
    if (free >= minFreeDiskMib) await this.#letGo();
    // Sizes are known before they matter, so that the first look at a full disk knows who grows.
    const growing = free < 4 * minFreeDiskMib ? await this.#growing() : [];
    for (const sandbox of [...this.#held, ...growing])
      if ((await this.free(layers)) < minFreeDiskMib) await this.#stopAndPause(sandbox);
  }

  /** Those whose layers grew since the last look, the fastest first. */
  async #growing(): Promise<Sandbox[]> {
    const grown: { sandbox: Sandbox; bytes: number }[] = [];
    for (const sandbox of this.sandboxes.all()) {
      const { layer } = sandbox.record;
      if (sandbox.phase.at !== "running" || layer === undefined || this.#held.has(sandbox)) continue;
      const now = await this.sandboxes.kitchen.layers.usedBytes(layer);
      const bytes = now - (this.#sizes.get(sandbox.id) ?? now);
      this.#sizes.set(sandbox.id, now);
      if (bytes > 0) grown.push({ sandbox, bytes });
    }
    return grown.sort((a, b) => b.bytes - a.bytes).map(({ sandbox }) => sandbox);
  }

  async #stopAndPause(sandbox: Sandbox): Promise<void> {
    const { phase, id } = sandbox;
    this.#held.delete(sandbox);
    if (phase.at !== "running") return;
    const { machine } = phase;
    const isStill = () => sandbox.phase.at === "running" && sandbox.phase.machine === machine;
    const stop = () => sandbox.exclusive(async () => void (isStill() && (await machine.vm.stop())));
    this.log.warn({ id }, reason);
    await stop(); // at once, whatever the pause has to do first
    try {
      await this.sandboxes.pause(id, reason);
      this.#sizes.delete(id);
    } catch (error) {
      this.log.error({ id, error }, "not paused: it stands still until the host's disk has room");
      await stop();
      if (isStill()) this.#held.add(sandbox);
    }
  }

  async #letGo(): Promise<void> {
    for (const sandbox of this.#held) {
      this.#held.delete(sandbox);
      await sandbox.exclusive(async () => {
        if (sandbox.phase.at === "running") await sandbox.phase.machine.vm.cont();
      });
    }
  }
}
