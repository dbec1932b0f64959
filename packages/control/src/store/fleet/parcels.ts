import type { SQL } from "bun";

/** Longer than a host takes to remove a few objects; a replica that dies leaves them to another after this. */
const heldMs = 120_000;

/** Something in an object store that nobody needs. */
export type Discarded = { teamId: string; storeId: string; parcel: string };
/** One that this replica holds. */
export type HeldParcel = Discarded & { id: string };

/** Queries about what lies in object stores for nobody. */
export class ParcelStore {
  constructor(readonly client: SQL) {}

  /** Notes that nobody needs a parcel. What a sandbox needed is noted by the database itself. */
  async discard({ teamId, storeId, parcel }: Discarded): Promise<void> {
    await this
      .client`insert into discarded_parcels (team_id, store_id, parcel) values (${teamId}, ${storeId}, ${parcel})`;
  }

  /** Takes some of a store, past those that others hold. A parcel that is needed again is not among them. */
  async hold(storeIds: readonly string[], count: number): Promise<HeldParcel[]> {
    if (storeIds.length === 0) return [];
    await this.client`delete from discarded_parcels d using sandboxes s where s.parcel = d.parcel and s.parcel <> ''`;
    const rows = await this
      .client`update discarded_parcels set held_until = now() + ${heldMs} * interval '1 millisecond'
      where id in (
        select id from discarded_parcels where store_id in ${this.client(storeIds as string[])}
          and (held_until is null or held_until < now())
        order by id limit ${count} for update skip locked)
      returning id, team_id, store_id, parcel`;
    return rows.map((row: { [name in "id" | "team_id" | "store_id" | "parcel"]: string }) => ({
      ...{ id: `${row.id}`, teamId: row.team_id, storeId: row.store_id, parcel: row.parcel },
    }));
  }

  /** They are gone from their store. */
  async removed(ids: readonly string[]): Promise<void> {
    if (ids.length > 0)
      await this.client`delete from discarded_parcels where id in ${this.client(ids.map(Number) as number[])}`;
  }
}
