import { hostagent, newSandboxId, type rest } from "@wrenn/contract";
import { full } from "../../hosts/fleet.ts";
import { type Host, hostError } from "../../hosts/host.ts";
import type { Once } from "../../store/once.ts";
import { isBeingMade } from "../../store/phase.ts";
import { NameTaken, NoRoom } from "../../store/sandboxes.ts";
import type { NewSandbox, SandboxRow, SnapshotRow, Terms } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import { nameTaken, otherCreation } from "../refusals.ts";
import type { Outcomes } from "./outcomes.ts";
import type { Source } from "./source.ts";

/** How often a creation that another request began is looked at. */
const askAgainMs = 100;

/** Failures of a create after which another host may do better. */
export const elsewhere: ReadonlySet<string> = new Set(["host_unavailable", "insufficient_storage"]);

/** What a new sandbox shall be beyond its source. */
export type Wishes = Omit<rest.CreateCapsule, "template" | "volumes"> & { endAt?: Date; terms?: Terms };
/** A creation as the API asks for it. */
export type CreateSpec = rest.CreateCapsule & Pick<Wishes, "terms">;

/** Told of a new sandbox's row before its host is asked to make it. */
export type Placed = (row: SandboxRow) => void;
/** The key under which a creation is asked for, and who is told of its row. */
export type How = { once?: Once | undefined; placed?: Placed | undefined };

/** How a sandbox comes to be: what it starts from, where it is placed, once for each key, and on which host it is made. */
export class Creation {
  constructor(readonly outcomes: Outcomes) {}

  get #ground() {
    return this.outcomes.ground;
  }

  /** Makes a sandbox and answers when it runs; under a key that stands for one, that one. Throws as {@link start}. */
  async create(caller: Caller, spec: CreateSpec, how: How): Promise<SandboxRow> {
    await this.#ground.policies.check(caller.team, spec.network, spec.terms);
    const made = how.once && (await this.#made(caller, how.once));
    return made ?? (await this.start(caller, await this.#mounting(caller, spec), spec, how));
  }

  /** A snapshot as what a sandbox starts from, on the host that has it. */
  sourceOf(snapshot: SnapshotRow, name: string): Source {
    const { id, hostId, template, mounts } = snapshot;
    return { hosts: [this.#ground.fleet.host(hostId)], name, template, snapshot: id, ...(mounts && { mounts }) };
  }

  /** Starts a sandbox from `source`; it is over, and no host holds anything of it, when this throws. */
  async start(caller: Caller, source: Source, wishes: Wishes, how: How = {}): Promise<SandboxRow> {
    const { once, placed } = how;
    const spec = { ...wishes, timeout_sec: await this.#ground.quotas.admit(caller, wishes) };
    const made = await this.#reserve(caller, source, spec, once);
    if (!made) return (await this.#made(caller, once!)) ?? (await this.start(caller, source, wishes, how));
    const row = once ? await this.outcomes.advance(made, "place") : made;
    placed?.(row);
    return await this.#ground.events.told(caller, { kind: "capsule.create", id: row.id }, async () => {
      try {
        return await this.#launch(caller, row, source, spec);
      } catch (thrown) {
        if (once) await this.#ground.once.release(row.teamId, once.key, row.id);
        throw thrown;
      }
    });
  }

  /** The sandbox that a key stands for, when it runs; `undefined` when there is none, or its creation failed. */
  async #made(caller: Caller, once: Once): Promise<SandboxRow | undefined> {
    const until = Date.now() + limits.create;
    for (;;) {
      const claimed = await this.#ground.once.find(caller.team, once.key);
      if (!claimed) return undefined;
      if (claimed.digest !== once.digest) throw otherCreation(claimed.id);
      const row = await this.outcomes.get(caller, claimed.id);
      if (!isBeingMade(row) || Date.now() > until) return row;
      await Bun.sleep(askAgainMs);
    }
  }

  /** What it starts from, on the host that has the volumes it is to mount. */
  async #mounting(caller: Caller, spec: CreateSpec): Promise<Source> {
    const unknown = spec.terms ? "invalid_request" : "not_found"; // as each dialect has it
    const source = await this.#source(caller, spec);
    return await this.#ground.mounting.of(caller.team, source, { volumes: spec.volumes, unknown });
  }

  /** The team's snapshot of this name, a template that was built, or one of a host. */
  async #source(caller: Caller, spec: CreateSpec): Promise<Source> {
    const { store, fleet } = this.#ground;
    const name = spec.template;
    const own = (await store.isName(caller.team, name)) && (await this.#own(caller, name));
    if (own) return own;
    // Volumes are on one host, whichever that is.
    const needs = { ...needsOf(spec), team: caller.team, zone: spec.availability_zone, wide: !!spec.volumes?.length };
    return { hosts: await fleet.holders(needs, name), name, template: name };
  }

  async #own(caller: Caller, name: string): Promise<Source | undefined> {
    const { snapshots, versions } = this.#ground;
    const snapshot = await snapshots.named(caller.team, name);
    if (snapshot) return this.sourceOf(snapshot, name);
    const built = await versions.find(caller.team, name);
    return built && { ...this.sourceOf(built.snapshot, name), defaults: built.defaults };
  }

  /** A row on the first host that has room; `undefined` when `once` stands for another sandbox already. */
  async #reserve(caller: Caller, source: Source, spec: Wishes, once?: Once): Promise<SandboxRow | undefined> {
    for (const { id } of source.hosts) {
      const wanted = rowOf(caller, source, spec, id);
      try {
        const { store, once: keys } = this.#ground;
        const row = once ? await keys.insert(wanted, once) : await store.place({ ...wanted, state: "starting" });
        if (row) this.#ground.fleet.reserved(id, needsOf(spec));
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
    const { fleet, policies, agentToken } = this.#ground;
    const others = source.hosts.filter(({ id }) => id !== placed.hostId);
    let row = placed;
    for (;;) {
      const host = fleet.host(row.hostId);
      try {
        const held = { accessToken: agentToken(row.id), network: await policies.wire(row) };
        const request = { ...requestOf(row, source, spec), ...held };
        const { sandbox } = await host.rpc.createSandbox(request, fleet.options(caller, limits.create));
        return await this.outcomes.reached(row, sandbox!);
      } catch (thrown) {
        const next = elsewhere.has(hostError(thrown).code) ? await this.#move(row, others) : undefined;
        if (!next) throw await this.outcomes.giveUp(caller, host, row, thrown);
        this.outcomes.clear(caller, host, row.id);
        row = next;
      }
    }
  }

  /** The row on the next of `hosts` that has room, as its next incarnation: what the host before may yet say is void. */
  async #move(row: SandboxRow, hosts: Host[]): Promise<SandboxRow | undefined> {
    for (let host = hosts.shift(); host; host = hosts.shift()) {
      const moved = await this.#ground.store.write(row, { hostId: host.id, run: row.run + 1 });
      if (moved) return moved;
    }
    return undefined;
  }
}

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
    mounts: source.mounts ?? null,
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
    mounts: (source.mounts ?? []).map(({ volume, path }) => ({ volume, path })),
  };
}
