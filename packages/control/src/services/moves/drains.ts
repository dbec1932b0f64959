import { capsuleId, type SandboxId, WrennError } from "@wrenn/contract";
import type { Fleet } from "../../hosts/fleet.ts";
import type { Log } from "../../log.ts";
import type { DrainRow, DrainStore, Outcome } from "../../store/fleet/drains.ts";
import type { HostStore } from "../../store/fleet/hosts.ts";
import { isRunning, isSettled, isStored } from "../../store/phase.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import type { Sandboxes } from "../sandboxes.ts";
import type { Hibernation } from "./hibernation.ts";

/** Sandboxes that leave a host at once: each writes its memory to the host's disk, and its line to the store is shared. */
const atOnce = 4;
const holdEveryMs = 15_000;

/** What emptying hosts stands on. */
export type DrainGround = {
  store: DrainStore;
  hosts: HostStore;
  sandboxes: Sandboxes;
  hibernation: Hibernation;
  fleet: Fleet;
  /** How often drains that nobody carries on are looked for. */
  takeOverMs: number;
  log: Log;
};

/**
 * Empties hosts: what runs is paused, moves through the object store and runs on elsewhere; what is paused moves to the
 * store. Where no other host could resume them, sandboxes are paused and stay. A replica that dies is followed by another.
 */
export class Drains implements AsyncDisposable {
  readonly #timer: Timer;
  #isStopped = false;

  constructor(readonly ground: DrainGround) {
    const takeOver = () => this.#takeOver().catch((err) => ground.log.warn({ err }, "drains were not looked at"));
    this.#timer = setInterval(takeOver, ground.takeOverMs);
    this.#timer.unref();
  }

  /**
   * Begins to empty a host that takes no new sandboxes any more; one that is under way goes on. Answers when it has begun;
   * `done` settles when it is over.
   */
  async begin(caller: Caller, hostId: string): Promise<{ done: Promise<void> }> {
    const { store, hosts, sandboxes } = this.ground;
    const there = await hosts.sandboxesOn(hostId);
    const drain = await store.begin(hostId, caller.actor, there.length);
    return { done: sandboxes.tasks.run(() => (drain ? this.#empty(drain) : this.#finished(hostId))) };
  }

  /** How far it has come; `undefined` for a host that nobody emptied. */
  find(hostId: string): Promise<DrainRow | undefined> {
    return this.ground.store.find(hostId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true; // what is under way ends with its sandbox; another replica goes on
    clearInterval(this.#timer);
  }

  async #takeOver(): Promise<void> {
    for (const drain of await this.ground.store.orphans()) this.ground.sandboxes.tasks.start(() => this.#empty(drain));
  }

  async #finished(hostId: string): Promise<void> {
    while (!this.#isStopped && (await this.find(hostId))?.finishedAt === null) await Bun.sleep(lookEveryMs);
  }

  async #empty(drain: DrainRow): Promise<void> {
    const { hosts, store, log } = this.ground;
    const hold = setInterval(() => void store.hold(drain.hostId).catch(() => {}), holdEveryMs);
    try {
      const queue = (await hosts.sandboxesOn(drain.hostId)).filter(({ id }) => !(id in drain.outcomes));
      const work = async () => {
        for (let next = queue.shift(); next && (await this.#isWanted(drain)); next = queue.shift())
          await this.#move(drain, next.id as SandboxId);
      };
      await Promise.all(Array.from({ length: atOnce }, work));
      if (!this.#isStopped) await store.finish(drain.hostId);
      log.info({ host: drain.hostId }, "the host was emptied");
    } finally {
      clearInterval(hold);
    }
  }

  /** Whether the host is to be emptied still: its operator may have changed his mind. */
  async #isWanted({ hostId }: DrainRow): Promise<boolean> {
    return !this.#isStopped && (await this.ground.hosts.find(hostId))?.mode === "draining";
  }

  async #move(drain: DrainRow, id: SandboxId): Promise<void> {
    const { store, log } = this.ground;
    try {
      const outcome = await this.#take(drain, id);
      if (outcome) await store.note(drain.hostId, capsuleId(id), { outcome });
    } catch (thrown) {
      log.warn({ err: thrown, host: drain.hostId, sandbox: id }, "a sandbox could not leave its host");
      const error = WrennError.from(thrown).message;
      await store.note(drain.hostId, capsuleId(id), { outcome: "failed", error });
    }
  }

  /** `undefined` for one that is over, or gone meanwhile. */
  async #take(drain: DrainRow, id: SandboxId): Promise<Outcome["outcome"] | undefined> {
    const { sandboxes, hibernation, log } = this.ground;
    const row = await sandboxes.store.find(id);
    if (!row || row.hostId !== drain.hostId || isStored(row) || !isSettled(row)) return undefined;
    const caller: Caller = { team: row.teamId, actor: drain.askedBy, requestId: crypto.randomUUID() };
    const ran = isRunning(row);
    if (!this.hasOtherPlace(row)) {
      if (!ran) return undefined;
      await sandboxes.pause(caller, id);
      return "paused";
    }
    await hibernation.pause(caller, id);
    if (!ran) return "hibernated";
    try {
      await sandboxes.resume(caller, id);
      return "moved";
    } catch (thrown) {
      log.warn({ err: thrown, sandbox: id }, "a moved sandbox does not run yet; it can be resumed");
      return "hibernated";
    }
  }

  /** Whether another host could resume what is on this one: of the same class, with the same store, and no volumes of it. */
  hasOtherPlace({ hostId, mounts }: Pick<SandboxRow, "hostId"> & { mounts?: SandboxRow["mounts"] }): boolean {
    if (mounts) return false;
    const { fleet } = this.ground;
    const own = fleet.member(hostId)?.row;
    if (!own?.moveClass || !own.storeId) return false;
    return fleet.members.some(
      ({ row }) => row.id !== hostId && row.moveClass === own.moveClass && row.storeId === own.storeId,
    );
  }
}

const lookEveryMs = 200;
