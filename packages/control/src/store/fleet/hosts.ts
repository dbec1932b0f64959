import { prefixes, randomId } from "@wrenn/contract";
import { and, asc, eq, inArray, isNull, lt, ne, or, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import {
  type HostMode,
  type HostRow,
  hostLoads,
  hosts,
  hostTags,
  sandboxes,
  snapshots,
  teams,
} from "../schema/index.ts";

/** What is reserved of a host. */
export type Load = { memoryMib: number; vcpus: number; sandboxes: number };
/** A host with what is reserved of it. */
export type LoadedHost = HostRow & { load: Load };
/** What a new host's maker says about it. */
export type NewHost = {
  type: "regular" | "byoc";
  teamId: string | null;
  provider: string;
  zone: string;
  createdBy: string;
};
/** What a machine is and where its agent listens. */
export type Machine = Pick<HostRow, "arch" | "cpuCores" | "memoryMib" | "diskMib" | "capacityMib">;
/** What its agent tells as well: how its sandboxes can move. */
export type Facts = Machine & Pick<HostRow, "moveClass" | "storeId">;

const isThere = isNull(hosts.deletedAt);
/** Whether a sandbox is in the object store, and nowhere else. */
const isAway = sql`(${sandboxes.parcel} <> '' and ${sandboxes.state} = 'paused')`;
const noLoad: Load = { memoryMib: 0, vcpus: 0, sandboxes: 0 };

/** Queries about hosts. */
export class HostStore {
  constructor(readonly db: Database) {}

  /** The id of the local host, made when there is none; it stays the same when its address changes. */
  async local(address: string): Promise<string> {
    return await this.db.transaction(async (transaction) => {
      await transaction.execute(sql`select pg_advisory_xact_lock(hashtext('wrenn local host'))`);
      const [known] = await transaction
        .select({ id: hosts.id, address: hosts.address })
        .from(hosts)
        .where(and(isThere, or(hosts.isLocal, eq(hosts.address, address))))
        .orderBy(sql`${hosts.isLocal} desc`)
        .limit(1);
      if (known?.address === address) return known.id;
      if (known) await transaction.update(hosts).set({ address }).where(eq(hosts.id, known.id));
      const id = known?.id ?? prefixes.host + randomId();
      if (!known) await transaction.insert(hosts).values({ id, address, isLocal: true, createdBy: "wrenn-cp" });
      return id;
    });
  }

  /** Every host, oldest first. */
  async all(): Promise<LoadedHost[]> {
    const rows = await this.db
      .select()
      .from(hosts)
      .leftJoin(hostLoads, eq(hostLoads.hostId, hosts.id))
      .where(isThere)
      .orderBy(asc(hosts.createdAt), asc(hosts.id));
    return rows.map((row) => ({ ...row.hosts, load: row.host_loads ?? noLoad }));
  }

  /** What is reserved of each host, as one text: a thousand rows would be decoded one by one. */
  async loads(): Promise<Map<string, Load>> {
    const [row] = (await this.db.execute(sql`select coalesce(json_agg(json_build_array(host_id,
      json_build_object('memoryMib', memory_mib, 'vcpus', vcpus, 'sandboxes', sandboxes))), '[]')::text as loads
      from host_loads`)) as unknown as { loads: string }[];
    return new Map(JSON.parse(row!.loads) as [string, Load][]);
  }

  /** The host with this id. */
  async find(id: string): Promise<LoadedHost | undefined> {
    const [row] = await this.db
      .select()
      .from(hosts)
      .leftJoin(hostLoads, eq(hostLoads.hostId, hosts.id))
      .where(and(isThere, eq(hosts.id, id)));
    return row && { ...row.hosts, load: row.host_loads ?? noLoad };
  }

  /** A new host, whose machine has yet to register; `undefined` when there is no such team. */
  async insert(host: NewHost): Promise<HostRow | undefined> {
    const values = { ...host, id: prefixes.host + randomId(), address: "" };
    const isThere = host.teamId === null || (await this.db.$count(teams, eq(teams.id, host.teamId))) > 0;
    return isThere ? (await this.db.insert(hosts).values(values).returning())[0] : undefined;
  }

  /** Records that replicas heard these hosts just now. Answers those that were not `online`. */
  async seen(ids: readonly string[]): Promise<string[]> {
    const back = await this.db
      .update(hosts)
      .set({ lastSeenAt: sql`now()`, status: "online", updatedAt: sql`now()` })
      .where(and(inArray(hosts.id, [...ids]), ne(hosts.status, "online")))
      .returning({ id: hosts.id });
    await this.db
      .update(hosts)
      .set({ lastSeenAt: sql`now()` })
      .where(inArray(hosts.id, [...ids]));
    return back.map(({ id }) => id);
  }

  /** Marks a host that no replica has heard for `silenceMs` as out of reach; answers whether it was not before. */
  async lose(id: string, silenceMs: number): Promise<boolean> {
    const silent = or(
      isNull(hosts.lastSeenAt),
      lt(hosts.lastSeenAt, sql`now() - ${silenceMs} * interval '1 millisecond'`),
    );
    const rows = await this.db
      .update(hosts)
      .set({ status: "unreachable", updatedAt: sql`now()` })
      .where(and(eq(hosts.id, id), eq(hosts.status, "online"), silent))
      .returning({ id: hosts.id });
    return rows.length > 0;
  }

  /** Writes down what a machine is, unless that is known. */
  async describe(id: string, machine: Facts): Promise<void> {
    const { arch, cpuCores, memoryMib, diskMib, capacityMib, moveClass, storeId } = machine;
    // A host that does not tell its size says nothing about what it can take.
    const capacity = memoryMib === 0 ? sql`${hosts.capacityMib}` : sql`${capacityMib}::bigint`;
    await this.db
      .update(hosts)
      .set({ ...machine, capacityMib: capacity, updatedAt: sql`now()` })
      .where(
        and(
          eq(hosts.id, id),
          sql`(${hosts.arch}, ${hosts.cpuCores}, ${hosts.memoryMib}, ${hosts.diskMib}, ${hosts.capacityMib},
              ${hosts.moveClass}, ${hosts.storeId})
            is distinct from (${arch}, ${cpuCores}::int, ${memoryMib}::bigint, ${diskMib}::bigint, ${capacity},
              ${moveClass}, ${storeId})`,
        ),
      );
  }

  /** What an operator wants of a host from now on. */
  async setMode(id: string, mode: HostMode): Promise<void> {
    await this.db.update(hosts).set({ mode, updatedAt: sql`now()` }).where(eq(hosts.id, id));
  }

  /** Ids of a host's sandboxes that hold or may hold something there. */
  async sandboxesOn(id: string): Promise<{ id: string; state: string }[]> {
    return await this.db
      .select({ id: sandboxes.id, state: sandboxes.state })
      .from(sandboxes)
      .where(and(eq(sandboxes.hostId, id), ne(sandboxes.state, "stopped"), sql`not ${isAway}`))
      .orderBy(asc(sandboxes.createdAt));
  }

  /** Names of the snapshots that teams have on a host, builds' own left out. */
  async snapshotsOn(id: string): Promise<string[]> {
    const rows = await this.db
      .select({ name: snapshots.name })
      .from(snapshots)
      .where(and(eq(snapshots.hostId, id), eq(snapshots.ofBuild, false)))
      .orderBy(asc(snapshots.createdAt));
    return rows.map(({ name }) => name);
  }

  /** Takes a host out of the registry: what it still holds by our rows is over, and its snapshots are gone. */
  async remove(id: string): Promise<void> {
    await this.db.transaction(async (transaction) => {
      await transaction
        .update(hosts)
        .set({ deletedAt: sql`now()`, isLocal: false, status: "unreachable", updatedAt: sql`now()` })
        .where(eq(hosts.id, id));
      await transaction.execute(sql`update sandboxes set state = 'paused', updated_at = now()
        where host_id = ${id} and parcel <> '' and state in ('resuming', 'missing')`); // the store has it
      await transaction.execute(sql`update sandboxes set state = 'stopped', reason = 'host_deleted', updated_at = now()
        where host_id = ${id} and state <> 'stopped' and not (parcel <> '' and state = 'paused')`);
      await transaction.execute(sql`delete from snapshots where host_id = ${id}`);
      // Its access token stays until its time, so that the agent learns that the host is gone, not that it is a stranger.
      await transaction.execute(sql`delete from host_tokens where host_id = ${id} and kind <> 'access'`);
    });
  }

  /** The tags of a host, in order. */
  async tags(id: string): Promise<string[]> {
    const rows = await this.db.select().from(hostTags).where(eq(hostTags.hostId, id)).orderBy(asc(hostTags.tag));
    return rows.map(({ tag }) => tag);
  }

  /** Sticks a tag on a host, or takes it off. */
  async tag(id: string, tag: string, isOn: boolean): Promise<void> {
    if (isOn) await this.db.insert(hostTags).values({ hostId: id, tag }).onConflictDoNothing();
    else await this.db.delete(hostTags).where(and(eq(hostTags.hostId, id), eq(hostTags.tag, tag)));
  }
}
