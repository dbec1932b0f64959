import type { SQL } from "bun";
import type { Actor } from "../../services/caller.ts";

/** A replica that does not say within this that it goes on has died. */
const heldMs = 60_000;

/** What became of a sandbox of a host that is emptied. */
export type Outcome = {
  /** `moved`: it runs on another host. `hibernated`: it is in the object store. `paused`: it is paused where it is. */
  outcome: "moved" | "hibernated" | "paused" | "failed";
  error?: string;
};
/** How far the emptying of a host has come. */
export type DrainRow = {
  hostId: string;
  askedBy: Actor;
  total: number;
  outcomes: Record<string, Outcome>;
  startedAt: Date;
  finishedAt: Date | null;
};

type Raw = { host_id: string; asked_by: Actor; total: number; outcomes: DrainRow["outcomes"] } & {
  [name in "started_at" | "finished_at"]: Date;
};

const drainOf = (row: Raw): DrainRow => ({
  ...{ hostId: row.host_id, askedBy: row.asked_by, total: row.total, outcomes: row.outcomes },
  ...{ startedAt: row.started_at, finishedAt: row.finished_at },
});

/** Queries about hosts that are being emptied. */
export class DrainStore {
  constructor(readonly client: SQL) {}

  /** Begins to empty a host, held by the caller; `undefined` when that is under way. */
  async begin(hostId: string, askedBy: Actor, total: number): Promise<DrainRow | undefined> {
    const [row] = await this.client`insert into host_drains (host_id, asked_by, total, held_until)
      values (${hostId}, ${JSON.stringify(askedBy)}::text::jsonb, ${total}, now() + ${heldMs} * interval '1 millisecond')
      on conflict (host_id) do update set asked_by = excluded.asked_by, total = excluded.total, outcomes = '{}',
        started_at = now(), finished_at = null, held_until = excluded.held_until
      where host_drains.finished_at is not null
      returning *`;
    return row && drainOf(row);
  }

  /** How far it has come; `undefined` for a host that nobody emptied. */
  async find(hostId: string): Promise<DrainRow | undefined> {
    const [row] = await this.client`select * from host_drains where host_id = ${hostId}`;
    return row && drainOf(row);
  }

  /** Writes down what became of a sandbox, and that the holder goes on. */
  async note(hostId: string, sandbox: string, outcome: Outcome): Promise<void> {
    const entry = JSON.stringify({ [sandbox]: outcome });
    await this.client`update host_drains set outcomes = outcomes || ${entry}::text::jsonb,
      held_until = now() + ${heldMs} * interval '1 millisecond' where host_id = ${hostId}`;
  }

  /** Says that the holder goes on. */
  async hold(hostId: string): Promise<void> {
    await this.client`update host_drains set held_until = now() + ${heldMs} * interval '1 millisecond'
      where host_id = ${hostId} and finished_at is null`;
  }

  /** It is done, or given up. */
  async finish(hostId: string): Promise<void> {
    await this.client`update host_drains set finished_at = now(), held_until = null
      where host_id = ${hostId} and finished_at is null`;
  }

  /** Takes over what a replica that died was emptying. */
  async orphans(): Promise<DrainRow[]> {
    const rows = await this.client`update host_drains set held_until = now() + ${heldMs} * interval '1 millisecond'
      where finished_at is null and held_until < now() returning *`;
    return rows.map(drainOf);
  }
}
