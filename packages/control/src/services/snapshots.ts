import { capsuleId, type hostagent, type SandboxId, WrennError } from "@wrenn/contract";
import { taken } from "../hosts/adopter.ts";
import type { Fleet } from "../hosts/fleet.ts";
import { type Host, hostError } from "../hosts/host.ts";
import type { TemplateStore } from "../store/builds/templates.ts";
import { isRunning, isSettled, isStored } from "../store/phase.ts";
import type { BuildRow, SandboxRow, SnapshotRow, TemplateRow } from "../store/schema/index.ts";
import { automaticName, type SnapshotStore } from "../store/snapshots.ts";
import type { Caller } from "./caller.ts";
import type { Events } from "./events.ts";
import { renewal } from "./life/ends.ts";
import { limits } from "./limits.ts";
import { isHibernated, wrongState } from "./refusals.ts";
import type { Sandboxes, Wishes } from "./sandboxes.ts";
import type { Tasks } from "./tasks.ts";

/** How a snapshot is to be called, what its owner says about it, and whether it leaves the memory out. */
export type Label = {
  name?: string | undefined;
  metadata?: Record<string, string> | undefined;
  diskOnly?: boolean | undefined;
};
/** A snapshot that sandboxes are about to be created from: their host begins them meanwhile. */
type Taking = Label & { children?: number };
/** Metadata of snapshots that a fork takes for its children. */
export const implicit = { implicit: "true" } as const;
/** What the children of a fork shall be; what is absent they have from their source. */
export type ForkWishes = { count: number; timeout_sec?: number | undefined; endAt?: Date } & Pick<
  Wishes,
  "envs" | "metadata"
>;

/** A template that was built, with the version that its bare name means. */
export type BuiltNow = Pick<TemplateRow, "name" | "platform" | "createdAt"> & { current: BuildRow };

/** What can be created from: the team's snapshots, templates that were built, and those of every host. */
export class Snapshots {
  readonly fleet: Fleet;
  readonly tasks: Tasks;
  readonly events: Events;

  constructor(
    readonly store: SnapshotStore,
    readonly sandboxes: Sandboxes,
  ) {
    ({ fleet: this.fleet, tasks: this.tasks, events: this.events } = sandboxes);
  }

  get #templates(): TemplateStore {
    return this.sandboxes.ground.versions.templates;
  }

  /** Takes a point in time of a running or paused sandbox, which stays as it is. Throws `conflict` for a name that is taken. */
  checkpoint(caller: Caller, id: SandboxId, label: Label): Promise<SnapshotRow> {
    return this.tasks.run(async () => this.#checkpoint(caller, await this.#settled(caller, id, label), label));
  }

  /** As a checkpoint, but the sandbox is paused afterwards. */
  pausing(caller: Caller, id: SandboxId, label: Label): Promise<SnapshotRow> {
    return this.tasks.run(async () => {
      let row = await this.#settled(caller, id, label);
      // Paused first: the snapshot then shares the files of the pause, and memory is written once.
      if (isRunning(row)) row = await this.sandboxes.pause(caller, id);
      return await this.#checkpoint(caller, row, label);
    });
  }

  /** As {@link pausing}, in the place of the team's snapshot of this name, if there is one: it is removed afterwards. */
  async replacing(caller: Caller, id: SandboxId, label: Label): Promise<SnapshotRow> {
    const former = label.name === undefined ? undefined : await this.store.named(caller.team, label.name);
    if (!former) return await this.pausing(caller, id, label);
    return await this.tasks.run(async () => {
      const made = await this.pausing(caller, id, { ...label, name: undefined });
      await this.store.swapNames(former, made);
      await this.remove(caller, made.name); // the former one has this name now
      return { ...made, name: former.name };
    });
  }

  /**
   * Takes a checkpoint and starts `count` sandboxes from it, all at once. All or nothing: when one fails the others are
   * removed and its error is thrown. The checkpoint is kept.
   */
  fork(caller: Caller, id: SandboxId, wishes: ForkWishes): Promise<SandboxRow[]> {
    return this.tasks.run(async () => {
      const children = await this.forkEach(caller, id, wishes);
      const failed = children.find((child) => child.status === "rejected");
      const made = children.filter((child) => child.status === "fulfilled").map(({ value }) => value);
      if (!failed) return made;
      // A removal that fails now is written down and carried out later.
      await Promise.allSettled(made.map((child) => this.sandboxes.destroy(caller, child.id)));
      throw failed.reason;
    });
  }

  /** As {@link fork}, but each child succeeds or fails by itself. Throws only what keeps all of them from being tried. */
  forkEach(caller: Caller, id: SandboxId, wishes: ForkWishes): Promise<PromiseSettledResult<SandboxRow>[]> {
    return this.tasks.run(async () => {
      const source = await this.#settled(caller, id, {});
      const snapshot = await this.#checkpoint(caller, source, { metadata: implicit, children: wishes.count });
      const from = this.sandboxes.sourceOf(snapshot, source.template);
      const spec: Wishes = {
        timeout_sec: wishes.timeout_sec ?? source.timeoutSec,
        timeout_action: source.timeoutAction,
        metadata: wishes.metadata ?? source.metadata,
        envs: wishes.envs,
        ...renewal(source, wishes.endAt),
        ...(source.terms && { terms: source.terms }),
        ...(source.network && { network: source.network }),
      };
      return await Promise.allSettled(
        Array.from({ length: wishes.count }, () => this.sandboxes.start(caller, from, spec)),
      );
    });
  }

  /** Puts a sandbox back to a snapshot, named by name or id, of its own line. It runs afterwards. */
  async rollback(caller: Caller, id: SandboxId, nameOrId: string): Promise<SandboxRow> {
    const row = await this.sandboxes.get(caller, id);
    const { team } = caller;
    const snapshot = (await this.store.named(team, nameOrId)) ?? (await this.store.find(team, nameOrId));
    if (!snapshot) throw absent(nameOrId);
    if (snapshot.sandboxId !== id && !(await this.store.isInLine(snapshot.id, row.origin)))
      throw foreign(row, snapshot);
    return await this.sandboxes.rollback(caller, id, snapshot.id);
  }

  /** The team's snapshots, newest first. */
  list(caller: Caller): Promise<SnapshotRow[]> {
    return this.store.list(caller.team);
  }

  /** The templates that every team has. */
  templates(): Promise<hostagent.Template[]> {
    return this.fleet.allTemplates();
  }

  /** The templates that were built and that the team may start from, by name. */
  async built(caller: Caller): Promise<BuiltNow[]> {
    return await this.#current(await this.#templates.list(caller.team));
  }

  async #current(rows: readonly TemplateRow[]): Promise<BuiltNow[]> {
    const current = await this.#templates.current(rows);
    return rows.flatMap(({ id, name, platform, createdAt }) => {
      const build = current.get(id);
      return build ? [{ name, platform, createdAt, current: build }] : [];
    });
  }

  /** The team's snapshot of this name, else the template. Throws `not_found`. */
  async get(caller: Caller, name: string): Promise<SnapshotRow | BuiltNow | hostagent.Template> {
    const found = (await this.store.named(caller.team, name)) ?? (await this.#built(caller, name));
    const known = found ?? (await this.#template(name));
    if (known) return known;
    throw absent(name);
  }

  /** Removes a snapshot; what was started from it keeps what it needs. Throws `forbidden` for a template of the platform. */
  remove(caller: Caller, name: string): Promise<void> {
    return this.tasks.run(async () => {
      const row = await this.store.named(caller.team, name);
      if (!row && (await this.#built(caller, name))) throw wasBuilt(name);
      if (!row) throw (await this.#template(name)) ? notYours(name) : absent(name);
      await this.events.told(caller, { kind: "template.snapshot.delete", id: name }, async () => {
        await this.#drop(caller, this.fleet.host(row.hostId), row.id);
        await this.store.remove(row);
      });
    });
  }

  /** Names of the snapshots with these ids. */
  names(ids: readonly string[]): Promise<Map<string, string>> {
    return this.store.names(ids);
  }

  async #template(name: string): Promise<hostagent.Template | undefined> {
    return (await this.templates()).find((template) => template.name === name);
  }

  async #built(caller: Caller, name: string): Promise<BuiltNow | undefined> {
    const row = await this.#templates.visible(caller.team, name);
    return row?.name === name ? (await this.#current([row]))[0] : undefined;
  }

  /** The sandbox, if a snapshot can be taken of it under this name. */
  async #settled(caller: Caller, id: SandboxId, { name }: Label): Promise<SandboxRow> {
    const row = await this.sandboxes.get(caller, id);
    if (!isSettled(row)) throw wrongState(row);
    if (isStored(row)) throw isHibernated(row);
    if (name !== undefined) {
      if (await this.store.named(caller.team, name)) throw isTaken(name);
      if ((await this.#template(name)) || (await this.#built(caller, name))) throw reserved(name);
    }
    return row;
  }

  #checkpoint(caller: Caller, row: SandboxRow, label: Taking): Promise<SnapshotRow> {
    const name = label.name ?? automaticName();
    const note = { kind: "template.snapshot.create", id: name } as const;
    return this.events.told(caller, note, () => this.#take(caller, row, { ...label, name }));
  }

  async #take(caller: Caller, row: SandboxRow, label: Taking & { name: string }): Promise<SnapshotRow> {
    const host = this.fleet.host(row.hostId);
    const { snapshot } = await host.rpc
      .checkpointSandbox(
        { id: row.id, diskOnly: label.diskOnly ?? false, children: label.children ?? 0 },
        this.fleet.options(caller, limits.checkpoint),
      )
      .catch((thrown) => {
        throw hostError(thrown);
      });
    try {
      const made = await this.#insert(row, snapshot!, label);
      // The host says so only with its next report. A sandbox that changed meanwhile is left to that.
      if (isRunning(row)) await this.sandboxes.store.write(row, { origin: made.id });
      return made;
    } catch (thrown) {
      await this.#drop(caller, host, snapshot!.id).catch(() => {});
      throw thrown;
    }
  }

  async #insert(row: SandboxRow, from: hostagent.Snapshot, label: Label & { name: string }): Promise<SnapshotRow> {
    const { name, metadata = {} } = label;
    const made = await this.store.insert({ ...taken(row, from), name, metadata });
    if (made) return made;
    throw isTaken(name); // somebody was faster
  }

  async #drop(caller: Caller, host: Host, id: string): Promise<void> {
    try {
      await host.rpc.deleteSnapshot({ id }, this.fleet.options(caller, limits.destroy));
    } catch (thrown) {
      throw hostError(thrown);
    }
  }
}

const absent = (name: string) =>
  new WrennError("not_found", `There is no snapshot "${name}".`, {
    remedy: "`GET /v1/snapshots` lists the team's snapshots and the templates.",
    details: { snapshot: name },
  });

const isTaken = (name: string) =>
  new WrennError("conflict", `The team has a snapshot "${name}".`, {
    remedy: "Choose another name, or delete that snapshot first.",
    details: { snapshot: name },
  });

const reserved = (name: string) =>
  new WrennError("conflict", `"${name}" is the name of a template.`, {
    remedy: "Choose another name.",
    details: { snapshot: name },
  });

const notYours = (name: string) =>
  new WrennError("forbidden", `"${name}" is a template of this installation, not of the team.`, {
    remedy: "Its operator can remove it.",
    details: { snapshot: name },
  });

const wasBuilt = (name: string) =>
  new WrennError("forbidden", `"${name}" is a template that was built, not a snapshot.`, {
    remedy: "`DELETE /v1/templates/NAME` removes the team's own, with all its versions.",
    details: { template: name },
  });

const foreign = ({ id }: SandboxRow, { name }: SnapshotRow) =>
  new WrennError("invalid_request", `The snapshot "${name}" is not of this sandbox's line.`, {
    remedy: "Use one that was taken of it or that it comes from, or create a new sandbox from this one.",
    details: { id: capsuleId(id), snapshot: name },
  });
