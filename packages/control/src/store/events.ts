import type { SQL } from "bun";

/** The channel that all replicas of one database share; migrations name it too. */
const channel = "wrenn_events";

/** What can happen. */
export const eventKinds = [
  "capsule.create",
  "capsule.pause",
  "capsule.hibernate",
  "capsule.resume",
  "capsule.destroy",
  "capsule.state.changed",
  "template.snapshot.create",
  "template.snapshot.delete",
  "host.up",
  "host.down",
] as const;

/** What happened. */
export type Note = {
  /** Its place in the order of events. */
  cursor: string;
  at: Date;
  kind: (typeof eventKinds)[number];
  team: string;
  /** Of the sandbox or host, or the name of the snapshot. */
  id: string;
  /** Who asked; absent for what the system does by itself. */
  actor?: { type: string; id: string; name: string };
  /** Why an action failed. */
  error?: string;
  /** Of a change of state. */
  from?: string;
  to?: string;
  reason?: string;
};
/** What the program tells by itself; the database tells what changes a sandbox. */
export type Told = Pick<Note, "kind" | "id" | "error">;

/** Which events a list has. Newest first, or oldest first after a cursor. */
export type EventFilter = {
  kinds?: readonly string[] | undefined;
  resource?: string | undefined;
  order: "asc" | "desc";
  after?: string | undefined;
  limit: number;
  /** Those too that an event of an earlier place may still follow: for a reader who hears of that one otherwise. */
  withUnsettled?: boolean | undefined;
};

type Row = {
  [name in "cursor" | "kind" | "team_id" | "resource_id" | "from_state" | "to_state" | "reason"]: string;
} & { actor: Note["actor"] | null; error: string | null; created_at: Date };

const cursorPattern = /^(\d{1,19})-(\d{1,18})$/;

/** Whether a text is the cursor of an event. */
export const isCursor = (text: string): boolean => cursorPattern.test(text);

/** Events: kept in their table, and told to every replica over PostgreSQL's NOTIFY. */
export class EventStore {
  readonly #client: SQL;

  constructor(client: SQL) {
    this.#client = client;
  }

  /** Writes an event down, which tells every replica. */
  async append({ kind, team, id, actor, error }: Told & Pick<Note, "team" | "actor">): Promise<void> {
    const sql = this.#client;
    await sql`insert into events (team_id, kind, resource_id, actor, error)
      values (${team}, ${kind}, ${id}, ${actor ? JSON.stringify(actor) : null}::text::jsonb, ${error ?? null})`;
  }

  /** A team's events. One that an earlier one may still follow is not listed yet, unless the filter says so. */
  async list(team: string, filter: EventFilter): Promise<Note[]> {
    const { kinds, resource, order, after, limit } = filter;
    const sql = this.#client;
    const [, xact, id] = cursorPattern.exec(after ?? "") ?? [];
    const direction = order === "asc" ? sql`asc` : sql`desc`;
    const from = order === "asc" ? sql`>` : sql`<`;
    const rows: Row[] = await sql`select xact::text || '-' || id as cursor, kind, team_id, resource_id, actor, error,
        from_state, to_state, reason, created_at
      from events where team_id = ${team}
        ${filter.withUnsettled ? sql`` : sql`and xact < pg_snapshot_xmin(pg_current_snapshot())`}
        ${kinds ? sql`and kind in ${sql([...kinds])}` : sql``}
        ${resource === undefined ? sql`` : sql`and resource_id = ${resource}`}
        ${xact ? sql`and (xact, id) ${from} (${xact}::text::xid8, ${id}::text::bigint)` : sql``}
      order by xact ${direction}, id ${direction} limit ${limit}`;
    return rows.map(noteOf);
  }

  /** Hears every event from now on. `onGap` is called when some may have been missed. */
  async listen(onNote: (note: Note) => void, onGap: () => void): Promise<AsyncDisposable> {
    let isFirst = true;
    return await this.#client.listen(
      channel,
      (payload) => {
        const told = JSON.parse(payload) as Note & { at: string };
        onNote({ ...told, at: new Date(told.at) });
      },
      () => {
        if (!isFirst) onGap();
        isFirst = false;
      },
    );
  }

  /** Removes events and spans that are older than `days`. */
  async prune(days: number): Promise<void> {
    const sql = this.#client;
    await sql`delete from events where created_at < now() - ${days} * interval '1 day'`;
    await sql`delete from usage_spans where ended_at < now() - ${days} * interval '1 day'`;
  }
}

const noteOf = (row: Row): Note => ({
  ...{ cursor: row.cursor, at: row.created_at, kind: row.kind as Note["kind"], team: row.team_id, id: row.resource_id },
  ...(row.actor && { actor: row.actor }),
  ...(row.error !== null && { error: row.error }),
  ...(row.from_state && { from: row.from_state }),
  ...(row.to_state && { to: row.to_state }),
  ...(row.reason && { reason: row.reason }),
});
