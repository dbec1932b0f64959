import {
  type Event,
  hostagent,
  isFinal,
  newSandboxId,
  type rest,
  type SandboxId,
  step,
  WrennError,
} from "@wrenn/contract";
import { type CallOptions, type Fleet, full } from "../hosts/fleet.ts";
import { type Host, hostError } from "../hosts/host.ts";
import { record } from "../hosts/reports.ts";
import type { Log } from "../log.ts";
import type { Once, OnceStore } from "../store/once.ts";
import { isBeingMade, isOver, isPaused, isRunning, isSettled, isStored } from "../store/phase.ts";
import { type Change, type ListFilter, NameTaken, NoRoom, type SandboxStore, type Seen } from "../store/sandboxes.ts";
import type { Defaults, NewSandbox, SandboxRow, SnapshotRow, Terms } from "../store/schema/index.ts";
import type { SnapshotStore } from "../store/snapshots.ts";
import type { Versions } from "./builds/versions.ts";
import type { Caller } from "./caller.ts";
import { renewal } from "./e2b/deadlines.ts";
import type { Events } from "./events.ts";
import { limits } from "./limits.ts";
import type { StoreKeys } from "./moves/store-keys.ts";
import type { Rendered } from "./network/placeholders.ts";
import type { Policies } from "./network/policies.ts";
import type { Quotas } from "./people/quotas.ts";
import { absent, isHibernated, nameTaken, otherCreation, wrongState } from "./refusals.ts";
import type { Tasks } from "./tasks.ts";

/** How often a creation that another request began is looked at. */
const askAgainMs = 100;

/**
 * What a new sandbox starts from: a template, or a snapshot, which is one too, and the hosts that have it, best first.
 * `name` is what it is shown as.
 */
export type Source = {
  hosts: readonly Host[];
  name: string;
  template: string;
  snapshot?: string;
  /** What commands get that name no user, folder or variable; absent leaves it to the template or snapshot. */
  defaults?: Defaults;
};
/** What a new sandbox shall be beyond its source. */
export type Wishes = Omit<rest.CreateCapsule, "template"> & { endAt?: Date; terms?: Terms };
/** How a pause comes about: because its time was up, which must still be so when it begins; and what it keeps. */
export type PauseWish = { expired?: boolean; diskOnly?: boolean };
/** Until when a resumed sandbox lives, if it has an end, and whether it boots although its memory was kept. */
export type ResumeWish = { endAt?: Date | undefined; diskOnly?: boolean | undefined };

/** Told of a new sandbox's row before its host is asked to make it. */
type Placed = (row: SandboxRow) => void;
type How = { once?: Once | undefined; placed?: Placed | undefined };

type RestartRequest = { id: SandboxId; run: bigint; network: Rendered | undefined };
type Restart = (host: Host, request: RestartRequest, options: CallOptions) => Promise<Reported>;
type Reported = { sandbox?: hostagent.Sandbox | undefined };

/** The life of sandboxes. Every change is written down as an intent, done by the host, and recorded as the host reports it. */
export class Sandboxes {
  readonly store: SandboxStore;
  readonly once: OnceStore;
  readonly snapshots: SnapshotStore;
  readonly versions: Versions;
  readonly fleet: Fleet;
  readonly tasks: Tasks;
  readonly events: Events;
  readonly log: Log;
  readonly quotas: Pick<Quotas, "admit" | "timeoutFor">;
  readonly policies: Policies;
  /** What opens the object store for a host that a sandbox comes to. */
  readonly storeKeys: StoreKeys;
  /** What the guest agent of a sandbox asks its callers for. */
  readonly agentToken: (id: SandboxId) => string;

  constructor(
    ground: Pick<
      Sandboxes,
      | "store"
      | "once"
      | "snapshots"
      | "versions"
      | "fleet"
      | "tasks"
      | "events"
      | "log"
      | "quotas"
      | "policies"
      | "storeKeys"
      | "agentToken"
    >,
  ) {
    ({
      store: this.store,
      once: this.once,
      snapshots: this.snapshots,
      versions: this.versions,
      fleet: this.fleet,
      tasks: this.tasks,
      events: this.events,
      log: this.log,
      quotas: this.quotas,
      policies: this.policies,
      storeKeys: this.storeKeys,
      agentToken: this.agentToken,
    } = ground);
  }

  /** The sandbox, if it is the team's. Throws `not_found`. */
  async get(caller: Caller, id: SandboxId): Promise<SandboxRow> {
    const row = await this.store.find(id);
    if (row?.teamId !== caller.team) throw absent(id);
    return row;
  }

  /** The team's sandboxes, newest first. */
  list(caller: Caller, filter: ListFilter): Promise<SandboxRow[]> {
    return this.store.list(caller.team, filter);
  }

  /**
   * Makes a sandbox and answers when it runs. Throws `not_found` for an unknown template and whatever the host throws.
   * With `once` it is made once however often it is asked for; throws `conflict` when the key was for something else.
   */
  create(
    caller: Caller,
    spec: rest.CreateCapsule & Pick<Wishes, "terms">,
    once?: Once,
    placed?: Placed,
  ): Promise<SandboxRow> {
    return this.tasks.run(async () => {
      await this.policies.check(caller.team, spec.network, spec.terms);
      const made = once && (await this.#made(caller, once));
      return made ?? (await this.start(caller, await this.#source(caller, spec), spec, { once, placed }));
    });
  }

  /** As {@link create}, but answers as soon as the sandbox has its row and its host; how it goes on shows in its state. */
  createSoon(caller: Caller, spec: rest.CreateCapsule, once?: Once): Promise<SandboxRow> {
    const placed = Promise.withResolvers<SandboxRow>();
    this.create(caller, spec, once, placed.resolve).then(placed.resolve, placed.reject);
    return placed.promise;
  }

  /** The sandbox that a key stands for, when it runs; `undefined` when there is none, or its creation failed. */
  async #made(caller: Caller, once: Once): Promise<SandboxRow | undefined> {
    const until = Date.now() + limits.create;
    for (;;) {
      const claimed = await this.once.find(caller.team, once.key);
      if (!claimed) return undefined;
      if (claimed.digest !== once.digest) throw otherCreation(claimed.id);
      const row = await this.get(caller, claimed.id);
      if (!isBeingMade(row) || Date.now() > until) return row;
      await Bun.sleep(askAgainMs);
    }
  }

  /** The team's snapshot of this name, a template that was built, or one of a host. */
  async #source(caller: Caller, spec: rest.CreateCapsule): Promise<Source> {
    const name = spec.template;
    const snapshot = await this.snapshots.named(caller.team, name);
    if (snapshot) return this.sourceOf(snapshot, name);
    const built = await this.versions.find(caller.team, name);
    if (built) return { ...this.sourceOf(built.snapshot, name), defaults: built.defaults };
    const hosts = this.fleet.candidates({ team: caller.team, ...needsOf(spec), zone: spec.availability_zone });
    return { hosts: await this.fleet.having(hosts, name), name, template: name };
  }

  /** A snapshot as what a sandbox starts from, on the host that has it. */
  sourceOf(snapshot: SnapshotRow, name: string): Source {
    return { hosts: [this.fleet.host(snapshot.hostId)], name, template: snapshot.template, snapshot: snapshot.id };
  }

  /** Starts a sandbox from `source`; it is over, and no host holds anything of it, when this throws. */
  async start(caller: Caller, source: Source, wishes: Wishes, how: How = {}): Promise<SandboxRow> {
    const { once, placed } = how;
    const spec = { ...wishes, timeout_sec: await this.quotas.admit(caller, wishes) };
    const pending = await this.#reserve(caller, source, spec, once);
    if (!pending) return (await this.#made(caller, once!)) ?? (await this.start(caller, source, wishes, how));
    const row = await this.#advance(pending, "place");
    placed?.(row);
    return await this.events.told(caller, { kind: "capsule.create", id: row.id }, async () => {
      try {
        return await this.#launch(caller, row, source, spec);
      } catch (thrown) {
        if (once) await this.once.release(row.teamId, once.key, row.id);
        throw thrown;
      }
    });
  }

  /** A row on the first host that has room; `undefined` when `once` stands for another sandbox already. */
  async #reserve(caller: Caller, source: Source, spec: Wishes, once?: Once): Promise<SandboxRow | undefined> {
    for (const { id } of source.hosts) {
      const wanted = rowOf(caller, source, spec, id);
      try {
        const row = once ? await this.once.insert(wanted, once) : await this.store.insert(wanted);
        if (row) this.fleet.reserved(id, needsOf(spec));
        return row;
      } catch (thrown) {
        if (thrown instanceof NameTaken) throw nameTaken(wanted.name!);
        if (!(thrown instanceof NoRoom)) throw thrown;
      }
    }
    throw full(needsOf(spec).memoryMib);
  }

  /** Has the sandbox made where it was placed, or on the next host when that one cannot. */
  async #launch(caller: Caller, placed: SandboxRow, source: Source, spec: Wishes): Promise<SandboxRow> {
    const others = source.hosts.filter(({ id }) => id !== placed.hostId);
    let row = placed;
    for (;;) {
      const host = this.fleet.host(row.hostId);
      try {
        const held = { accessToken: this.agentToken(row.id), network: await this.policies.wire(row) };
        const request = { ...requestOf(row, source, spec), ...held };
        const { sandbox } = await host.rpc.createSandbox(request, this.fleet.options(caller, limits.create));
        return await this.#reached(row, sandbox!);
      } catch (thrown) {
        const next = elsewhere.has(hostError(thrown).code) ? await this.#move(row, others) : undefined;
        if (!next) throw await this.#giveUp(caller, host, row, thrown);
        this.#clear(caller, host, row.id);
        row = next;
      }
    }
  }

  /** The row on the next of `hosts` that has room, as its next incarnation: what the host before may yet say is void. */
  async #move(row: SandboxRow, hosts: Host[]): Promise<SandboxRow | undefined> {
    for (let host = hosts.shift(); host; host = hosts.shift()) {
      const moved = await this.store.write(row, { hostId: host.id, run: row.run + 1 });
      if (moved) return moved;
    }
    return undefined;
  }

  /** Stops the sandbox and keeps its memory and disk, or its disk alone. Throws `invalid_state` unless it runs. */
  pause(caller: Caller, id: SandboxId, wish: PauseWish = {}): Promise<SandboxRow> {
    return this.tasks.run(() => this.#pause(caller, id, wish));
  }

  async #pause(caller: Caller, id: SandboxId, { expired = false, diskOnly = false }: PauseWish): Promise<SandboxRow> {
    const seen = { ...(await this.get(caller, id)), expired };
    const row = await this.#advance(seen, "pause", { askedBy: caller.actor });
    const host = this.fleet.host(row.hostId);
    return await this.events.told(caller, { kind: "capsule.pause", id }, async () => {
      try {
        const { sandbox } = await host.rpc.pauseSandbox({ id, diskOnly }, this.fleet.options(caller, limits.pause));
        return await this.#reached(row, sandbox!);
      } catch (thrown) {
        throw await this.#settle(caller, host, row, thrown);
      }
    });
  }

  /** Runs a paused sandbox again, as its next incarnation. Throws `invalid_state` unless it is paused. */
  resume(caller: Caller, id: SandboxId, { endAt, diskOnly = false }: ResumeWish = {}): Promise<SandboxRow> {
    return this.tasks.run(async () => {
      const seen = await this.get(caller, id);
      const stored = isStored(seen) ? { parcel: seen.parcel, vaults: this.storeKeys.of(seen.teamId) } : {};
      const wish = { diskOnly, ...stored };
      const resume: Restart = (host, request, options) => host.rpc.resumeSandbox({ ...request, ...wish }, options);
      return await this.#restart(caller, { ...seen, ...renewal(seen, endAt) }, "resume", resume);
    });
  }

  /** Puts a running or paused sandbox back to a snapshot of its own line; it runs afterwards, as its next incarnation. */
  rollback(caller: Caller, id: SandboxId, snapshot: string): Promise<SandboxRow> {
    return this.tasks.run(async () => {
      const found = await this.get(caller, id);
      if (isStored(found)) throw isHibernated(found);
      const seen = { ...found, ...renewal(found) };
      const rollback: Restart = (host, request, options) => host.rpc.rollbackSandbox({ ...request, snapshot }, options);
      return await this.#restart(caller, seen, step(seen.state, "rollback") ? "rollback" : "resume", rollback);
    });
  }

  async #restart(caller: Caller, seen: SandboxRow, event: Event, call: Restart): Promise<SandboxRow> {
    if (!step(seen.state, event)) throw wrongState(seen);
    const places = isStored(seen) ? this.fleet.places(seen) : [seen.hostId];
    let row = await this.#restarting(caller, seen, event, places);
    return await this.events.told(caller, { kind: "capsule.resume", id: row.id }, async () => {
      for (;;) {
        const host = this.fleet.host(row.hostId);
        try {
          const request = { id: row.id, run: BigInt(row.run), network: await this.policies.wire(row) };
          const limit = isStored(row) ? limits.hibernate : limits.resume;
          const { sandbox } = await call(host, request, this.fleet.options(caller, limit));
          return await this.#reached(row, sandbox!);
        } catch (thrown) {
          const error = await this.#settle(caller, host, row, thrown);
          if (!isStored(row) || places.length === 0 || !elsewhereToo.has(error.code)) throw error;
          const now = await this.get(caller, row.id);
          if (!isStored(now) || !isPaused(now)) throw error;
          row = await this.#restarting(caller, { ...now, endAt: seen.endAt }, event, places);
        }
      }
    });
  }

  /** The row as its next incarnation, on the first of `places` that has room; those that were tried are taken out. */
  async #restarting(caller: Caller, seen: SandboxRow, event: Event, places: string[]): Promise<SandboxRow> {
    const change = { run: seen.run + 1, endAt: seen.endAt, askedBy: caller.actor };
    for (let hostId = places.shift(); hostId !== undefined; hostId = places.shift()) {
      const row = await this.store.advance(seen, event, { ...change, hostId });
      if (row) return row;
      // Only a lack of room keeps the row of a paused sandbox as it was.
      const now = (await this.store.find(seen.id)) ?? seen;
      if (now.state !== seen.state || now.run !== seen.run) throw wrongState(now);
    }
    throw full(seen.memoryMib);
  }

  /** Removes the sandbox; removing one that is gone, or being removed, succeeds. */
  destroy(caller: Caller, id: SandboxId): Promise<void> {
    return this.tasks.run(async () => this.#destroy(caller, await this.#stopping(caller, await this.get(caller, id))));
  }

  /** Removes the sandbox if its time is up when it is looked at. Throws `invalid_state` when it is not, or does not run. */
  expire(caller: Caller, id: SandboxId): Promise<void> {
    return this.tasks.run(async () => {
      const seen = await this.get(caller, id);
      await this.#destroy(caller, await this.#advance({ ...seen, expired: true }, "stop", { askedBy: caller.actor }));
    });
  }

  async #destroy(caller: Caller, row: SandboxRow): Promise<void> {
    if (isFinal(row.state)) return;
    const options = this.fleet.options(caller, limits.destroy);
    await this.events.told(caller, { kind: "capsule.destroy", id: row.id }, () => this.remove(row, options));
  }

  /** Carries out a deletion that has been written down. */
  async remove(row: SandboxRow, options: Partial<CallOptions> = { timeoutMs: limits.destroy }): Promise<void> {
    // What a host may have of it is removed when the host is heard: no row will want it.
    if (isStored(row)) return void (await this.store.advance(row, "gone", { reason: "" }));
    try {
      await this.fleet.host(row.hostId).rpc.destroySandbox({ id: row.id }, options);
    } catch (thrown) {
      const error = hostError(thrown);
      const remedy =
        "The deletion is noted and is carried out as soon as the host answers; it may also be asked for again.";
      throw new WrennError(error.code, error.message, { remedy, details: error.details, cause: thrown });
    }
    await this.store.advance(row, "gone", { reason: "" });
  }

  /** Refreshes the inactivity timer. Throws `invalid_state` unless it runs. */
  async ping(caller: Caller, id: SandboxId): Promise<void> {
    const row = await this.get(caller, id);
    if (!isRunning(row)) throw wrongState(row);
    await this.#ask(row, (host, options) => host.rpc.pingSandbox({ id }, options), caller);
  }

  /** Changes the seconds of inactivity after which the sandbox is paused or killed. */
  async setTimeout(caller: Caller, id: SandboxId, wishSec: number): Promise<SandboxRow> {
    const row = await this.get(caller, id);
    if (!isSettled(row)) throw wrongState(row);
    if (isStored(row)) throw isHibernated(row);
    const timeoutSec = await this.quotas.timeoutFor(caller, wishSec);
    const answer = await this.#ask(
      row,
      (host, options) => host.rpc.setSandboxTimeout({ id, timeoutSec }, options),
      caller,
    );
    return (await record(this.store, answer.sandbox!, { host: row.hostId })) ?? row;
  }

  async #ask<T>(row: SandboxRow, call: (host: Host, options: CallOptions) => Promise<T>, caller: Caller): Promise<T> {
    try {
      return await call(this.fleet.host(row.hostId), this.fleet.options(caller, limits.quick));
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  /** Takes an arrow, or says in which state the sandbox is instead. */
  async #advance(row: SandboxRow & Seen, event: Event, change: Change = {}): Promise<SandboxRow> {
    const next = await this.store.advance(row, event, change);
    if (next) return next;
    throw wrongState((await this.store.find(row.id)) ?? row);
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

  /** Records the host's answer. What overtook this action meanwhile shows in the row; only an end of the sandbox is an error. */
  async #reached(seen: SandboxRow, report: hostagent.Sandbox): Promise<SandboxRow> {
    const row = (await record(this.store, report, { host: seen.hostId })) ?? seen;
    if (isOver(row)) throw wrongState(row);
    return row;
  }

  /** After a failed create: the row says why, and whatever the host may have made is removed. */
  async #giveUp(caller: Caller, host: Host, row: SandboxRow, thrown: unknown): Promise<WrennError> {
    const error = hostError(thrown);
    await this.store.advance(row, "fail", { reason: error.message });
    this.#clear(caller, host, row.id);
    return error;
  }

  /** Removes what a host may have made; when it is away, its watcher does when it is back. */
  #clear(caller: Caller, host: Host, id: SandboxId): void {
    this.tasks.start(async () => {
      await host.rpc.destroySandbox({ id }, this.fleet.options(caller, limits.destroy));
    });
  }

  /** After a failed pause or resume: the host knows what is true now; if it cannot be asked, the watcher asks later. */
  async #settle(caller: Caller, host: Host, row: SandboxRow, thrown: unknown): Promise<WrennError> {
    const error = hostError(thrown);
    try {
      const { sandbox } = await host.rpc.getSandbox({ id: row.id }, this.fleet.options(caller, limits.quick));
      await record(this.store, sandbox!, { host: host.id, asked: row });
    } catch (cause) {
      // What is in the object store is there whatever becomes of its way back; a host that brings it yet is overruled.
      if (isStored(row)) await this.store.advance(row, "paused", { reason: error.message });
      else if (hostError(cause).code === "not_found") await this.store.advance(row, "gone", { reason: "host_lost_it" });
      else this.log.warn({ err: cause, sandbox: row.id, requestId: caller.requestId }, "the state is settled later");
    }
    return error;
  }
}

/** Failures of a create after which another host may do better. */
const elsewhere: ReadonlySet<string> = new Set(["host_unavailable", "insufficient_storage"]);

/** Failures of a return from the object store after which another host may do better. */
const elsewhereToo: ReadonlySet<string> = new Set([
  ...elsewhere,
  "no_hosts_available",
  "agent_error",
  "conflict",
  "unavailable",
]);

const needsOf = (spec: Wishes) => ({ memoryMib: spec.memory_mb ?? 0, vcpus: spec.vcpus ?? 0 });

function rowOf(caller: Caller, source: Source, spec: Wishes, hostId: string): NewSandbox {
  return {
    id: newSandboxId(),
    teamId: caller.team,
    hostId,
    name: spec.name ?? "",
    template: source.name,
    origin: source.snapshot ?? "",
    state: "pending",
    askedBy: caller.actor,
    run: 1,
    vcpus: spec.vcpus ?? 0,
    memoryMib: spec.memory_mb ?? 0,
    diskMib: spec.disk_size_mb ?? 0,
    timeoutSec: spec.timeout_sec,
    timeoutAction: spec.timeout_action,
    endAt: spec.endAt ?? null,
    terms: spec.terms ?? null,
    network: spec.network ?? null,
    metadata: spec.metadata ?? {},
  };
}

function requestOf(row: SandboxRow, source: Source, spec: Wishes) {
  const { id, teamId, vcpus, memoryMib, diskMib, timeoutSec } = row;
  return {
    ...{ id, teamId, vcpus, memoryMib, diskMib, timeoutSec },
    run: BigInt(row.run),
    template: source.template,
    snapshot: source.snapshot ?? "",
    timeoutAction: row.timeoutAction === "kill" ? hostagent.TimeoutAction.KILL : hostagent.TimeoutAction.PAUSE,
    envs: spec.envs ?? {},
    ...(source.defaults && { defaults: source.defaults }),
  };
}
