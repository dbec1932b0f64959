import { isFinal, type rest, type SandboxId, step } from "@wrenn/contract";
import type { CallOptions, Fleet } from "../hosts/fleet.ts";
import { record } from "../hosts/reports.ts";
import type { Log } from "../log.ts";
import type { Once } from "../store/once.ts";
import { isRunning, isSettled, isStored } from "../store/phase.ts";
import type { ListFilter, SandboxStore } from "../store/sandboxes.ts";
import type { SandboxRow, SnapshotRow } from "../store/schema/index.ts";
import type { Caller } from "./caller.ts";
import type { Events } from "./events.ts";
import { type CreateSpec, Creation, type How, type Placed, type Wishes } from "./life/creation.ts";
import type { LifeGround } from "./life/ground.ts";
import { Outcomes } from "./life/outcomes.ts";
import { type ResumeWish, Returns } from "./life/returns.ts";
import type { Source } from "./life/source.ts";
import { limits } from "./limits.ts";
import { isHibernated, wrongState } from "./refusals.ts";
import type { Tasks } from "./tasks.ts";

export type { Wishes } from "./life/creation.ts";
export type { ResumeWish } from "./life/returns.ts";
export type { Source } from "./life/source.ts";

/** How a pause comes about: because its time was up, which must still be so when it begins; and what it keeps. */
export type PauseWish = { expired?: boolean; diskOnly?: boolean };

/**
 * The life of sandboxes. Every change is written down as an intent, done by the host, and recorded as the host reports
 * it. What is begun goes on when its client has gone.
 */
export class Sandboxes {
  readonly store: SandboxStore;
  readonly fleet: Fleet;
  readonly tasks: Tasks;
  readonly events: Events;
  readonly log: Log;
  readonly agentToken: (id: SandboxId) => string;
  readonly #outcomes: Outcomes;
  readonly #creation: Creation;
  readonly #returns: Returns;

  constructor(readonly ground: LifeGround) {
    ({ store: this.store, fleet: this.fleet, tasks: this.tasks, events: this.events, log: this.log } = ground);
    this.agentToken = ground.agentToken;
    this.#outcomes = new Outcomes(ground);
    this.#creation = new Creation(this.#outcomes);
    this.#returns = new Returns(this.#outcomes);
  }

  /** The sandbox, if it is the team's. Throws `not_found`. */
  get(caller: Caller, id: SandboxId): Promise<SandboxRow> {
    return this.#outcomes.get(caller, id);
  }

  /** The team's sandboxes, newest first. */
  list(caller: Caller, filter: ListFilter): Promise<SandboxRow[]> {
    return this.store.list(caller.team, filter);
  }

  /**
   * Makes a sandbox and answers when it runs. Throws `not_found` for an unknown template and whatever the host throws.
   * With `once` it is made once however often it is asked for; throws `conflict` when the key was for something else.
   */
  create(caller: Caller, spec: CreateSpec, once?: Once, placed?: Placed): Promise<SandboxRow> {
    return this.tasks.run(() => this.#creation.create(caller, spec, { once, placed }));
  }

  /** As {@link create}, but answers as soon as the sandbox has its row and its host; how it goes on shows in its state. */
  createSoon(caller: Caller, spec: rest.CreateCapsule, once?: Once): Promise<SandboxRow> {
    const placed = Promise.withResolvers<SandboxRow>();
    this.create(caller, spec, once, placed.resolve).then(placed.resolve, placed.reject);
    return placed.promise;
  }

  /** A snapshot as what a sandbox starts from, on the host that has it. */
  sourceOf(snapshot: SnapshotRow, name: string): Source {
    return this.#creation.sourceOf(snapshot, name);
  }

  /** Starts a sandbox from `source`; it is over, and no host holds anything of it, when this throws. */
  start(caller: Caller, source: Source, wishes: Wishes, how: How = {}): Promise<SandboxRow> {
    return this.#creation.start(caller, source, wishes, how);
  }

  /** Stops the sandbox and keeps its memory and disk, or its disk alone. Throws `invalid_state` unless it runs. */
  pause(caller: Caller, id: SandboxId, wish: PauseWish = {}): Promise<SandboxRow> {
    return this.tasks.run(() => this.#pause(caller, id, wish));
  }

  async #pause(caller: Caller, id: SandboxId, { expired = false, diskOnly = false }: PauseWish): Promise<SandboxRow> {
    const seen = { ...(await this.get(caller, id)), expired };
    const host = this.fleet.host(seen.hostId); // or nothing is begun
    const row = await this.#outcomes.advance(seen, "pause", { askedBy: caller.actor });
    return await this.events.told(caller, { kind: "capsule.pause", id }, async () => {
      try {
        const { sandbox } = await host.rpc.pauseSandbox({ id, diskOnly }, this.fleet.options(caller, limits.pause));
        return await this.#outcomes.reached(row, sandbox!);
      } catch (thrown) {
        throw await this.#outcomes.settle(caller, host, row, thrown);
      }
    });
  }

  /** Runs a paused sandbox again, as its next incarnation. Throws `invalid_state` unless it is paused. */
  resume(caller: Caller, id: SandboxId, wish: ResumeWish = {}): Promise<SandboxRow> {
    return this.tasks.run(() => this.#returns.resume(caller, id, wish));
  }

  /** Puts a running or paused sandbox back to a snapshot of its own line; it runs afterwards, as its next incarnation. */
  rollback(caller: Caller, id: SandboxId, snapshot: string): Promise<SandboxRow> {
    return this.tasks.run(() => this.#returns.rollback(caller, id, snapshot));
  }

  /** Removes the sandbox; removing one that is gone, or being removed, succeeds. */
  destroy(caller: Caller, id: SandboxId): Promise<void> {
    return this.tasks.run(async () => this.#destroy(caller, await this.#stopping(caller, await this.get(caller, id))));
  }

  /** Removes the sandbox if its time is up when it is looked at. Throws `invalid_state` when it is not, or does not run. */
  expire(caller: Caller, id: SandboxId): Promise<void> {
    return this.tasks.run(async () => {
      const seen = { ...(await this.get(caller, id)), expired: true };
      await this.#destroy(caller, await this.#outcomes.advance(seen, "stop", { askedBy: caller.actor }));
    });
  }

  async #destroy(caller: Caller, row: SandboxRow): Promise<void> {
    if (isFinal(row.state)) return;
    const options = this.fleet.options(caller, limits.destroy);
    await this.events.told(caller, { kind: "capsule.destroy", id: row.id }, () => this.remove(row, options));
  }

  /** Notes the wish to delete; races with other changes until it holds or the sandbox is gone. */
  async #stopping(caller: Caller, seen: SandboxRow): Promise<SandboxRow> {
    let row = seen;
    while (step(row.state, "stop")) {
      const next = await this.store.advance(row, "stop", { askedBy: caller.actor });
      if (next) return next;
      row = (await this.store.find(row.id)) ?? row;
    }
    return row;
  }

  /** Carries out a deletion that has been written down. */
  remove(row: SandboxRow, options: Partial<CallOptions> = { timeoutMs: limits.destroy }): Promise<void> {
    return this.#outcomes.remove(row, options);
  }

  /** Refreshes the inactivity timer. Throws `invalid_state` unless it runs. */
  async ping(caller: Caller, id: SandboxId): Promise<void> {
    const row = await this.get(caller, id);
    if (!isRunning(row)) throw wrongState(row);
    await this.#outcomes.ask(caller, row, (host, options) => host.rpc.pingSandbox({ id }, options));
  }

  /** Changes the seconds of inactivity after which the sandbox is paused or killed. */
  async setTimeout(caller: Caller, id: SandboxId, wishSec: number): Promise<SandboxRow> {
    const row = await this.get(caller, id);
    if (!isSettled(row)) throw wrongState(row);
    if (isStored(row)) throw isHibernated(row);
    const timeoutSec = await this.ground.quotas.timeoutFor(caller, wishSec);
    const { sandbox } = await this.#outcomes.ask(caller, row, (host, options) =>
      host.rpc.setSandboxTimeout({ id, timeoutSec }, options),
    );
    return (await record(this.store, sandbox!, { host: row.hostId })) ?? row;
  }
}
