import { randomId } from "@wrenn/contract";
import type { SQL } from "bun";
import type { ChannelRow } from "../schema/index.ts";

/** One event on its way to one channel. */
export type DeliveryRow = {
  id: string;
  event: string;
  state: "due" | "delivered" | "dead";
  attempts: number;
  dueAt: Date;
  status: number | null;
  error: string;
  createdAt: Date;
  deliveredAt: Date | null;
};
/** A delivery that this replica holds, with all that it takes. */
export type Held = {
  id: string;
  event: string;
  attempts: number;
  createdAt: Date;
  channel: Pick<ChannelRow, "id" | "teamId" | "provider" | "config">;
  /** What happened; absent when a delivery outlived its event. */
  what: { kind: string; resource: string; actor: { type: string; id: string; name: string } | null; at: Date };
};
/** What became of a try. `retryMs` is how long the next one waits; absent for the last. */
export type Outcome = { status?: number | undefined; error: string; retryMs?: number | undefined };

/** A replica that dies while it delivers gives its deliveries up after this; longer than any try. */
const heldMs = 30_000;

/** Queries about channels and what is on its way to them. */
export class ChannelStore {
  constructor(readonly client: SQL) {}

  /** Keeps a channel; `undefined` when the team has one of that name. */
  async insert(
    row: Pick<ChannelRow, "teamId" | "name" | "provider" | "config" | "events">,
  ): Promise<ChannelRow | undefined> {
    const [made] = await this.client`insert into channels (id, team_id, name, provider, config, events)
      values (${`ch-${randomId()}`}, ${row.teamId}, ${row.name}, ${row.provider}, ${row.config}, ${array(row.events)}::text::text[])
      on conflict do nothing returning *`;
    return made && channelOf(made);
  }

  /** A team's channels, by name. */
  async list(team: string): Promise<ChannelRow[]> {
    return (await this.client`select * from channels where team_id = ${team} order by name`).map(channelOf);
  }

  /** A team's channel. */
  async find(team: string, id: string): Promise<ChannelRow | undefined> {
    const [row] = await this.client`select * from channels where team_id = ${team} and id = ${id}`;
    return row && channelOf(row);
  }

  /** Changes a channel; `undefined` when the team has another of that name. */
  async update(id: string, change: Pick<ChannelRow, "name" | "events" | "config">): Promise<ChannelRow | undefined> {
    const [row] = await this.client`update channels set name = ${change.name}, config = ${change.config},
        events = ${array(change.events)}::text::text[], updated_at = now()
      where id = ${id} and not exists (
        select from channels other where other.team_id = channels.team_id and other.name = ${change.name} and other.id <> ${id})
      returning *`;
    return row && channelOf(row);
  }

  /** Removes a channel and what is on its way to it. */
  async remove(id: string): Promise<void> {
    await this.client`delete from channels where id = ${id}`;
  }

  /** A channel's deliveries, newest first. */
  async deliveries(
    channel: string,
    { state, limit }: { state?: string | undefined; limit: number },
  ): Promise<DeliveryRow[]> {
    const rows = await this.client`select * from deliveries where channel_id = ${channel}
      and (${state ?? null}::text is null or state = ${state ?? null}) order by created_at desc, id desc limit ${limit}`;
    return rows.map(deliveryOf);
  }

  /** Makes a delivery due again, from its first try on; `false` when the channel has none of this id. */
  async replay(channel: string, delivery: string): Promise<boolean> {
    const rows = await this.client`update deliveries set state = 'due', attempts = 0, due_at = now(), held_until = null
      where channel_id = ${channel} and id = ${delivery} returning id`;
    await this.client.notify(wakeChannel, "");
    return rows.length > 0;
  }

  /** Takes up to `count` deliveries that are due, past those that others hold. */
  async hold(count: number): Promise<Held[]> {
    const rows = await this.client`with held as (
        update deliveries set held_until = now() + ${heldMs} * interval '1 millisecond', attempts = attempts + 1
        where id in (
          select id from deliveries where state = 'due' and due_at <= now() and (held_until is null or held_until < now())
          order by due_at limit ${count} for update skip locked)
        returning id, event, attempts, created_at, channel_id, event_id)
      select held.*, c.team_id, c.provider, c.config, e.kind, e.resource_id, e.actor, e.created_at as event_at
      from held join channels c on c.id = held.channel_id left join events e on e.id = held.event_id`;
    return rows.map(heldOf);
  }

  /** Writes down that a delivery arrived. */
  async delivered(id: string, status: number): Promise<void> {
    await this.client`update deliveries set state = 'delivered', status = ${status}, error = '', held_until = null,
      delivered_at = now() where id = ${id}`;
  }

  /** Writes down that a try failed: it is tried again, or was the last. */
  async failed(id: string, { status, error, retryMs }: Outcome): Promise<void> {
    await this
      .client`update deliveries set state = ${retryMs === undefined ? "dead" : "due"}, status = ${status ?? null},
      error = ${error.slice(0, 500)}, held_until = null, due_at = now() + ${retryMs ?? 0} * interval '1 millisecond'
      where id = ${id}`;
  }

  /** When the next delivery is due, milliseconds from now; `undefined` when none is. */
  async nextMs(): Promise<number | undefined> {
    const [row] = await this.client`select extract(epoch from
      min(greatest(due_at, coalesce(held_until, due_at))) - now()) * 1000 as ms from deliveries where state = 'due'`;
    return row.ms === null ? undefined : Math.max(0, Number(row.ms));
  }

  /** Calls `onDue` whenever a delivery was made. */
  async listen(onDue: () => void): Promise<AsyncDisposable> {
    return await this.client.listen(wakeChannel, onDue);
  }
}

/** Migration 0022 names it too. */
const wakeChannel = "wrenn_deliveries";

/** A text array as PostgreSQL reads it; the names in it are of a closed set without quotes. */
const array = (names: readonly string[]): string => `{${names.join(",")}}`;

/** A row as the database names its columns. */
type Raw = {
  [name in
    | "id"
    | "team_id"
    | "name"
    | "provider"
    | "config"
    | "event"
    | "error"
    | "channel_id"
    | "kind"
    | "resource_id"]: string;
} & { [name in "created_at" | "updated_at" | "due_at"]: Date } & {
  events: string[];
  state: DeliveryRow["state"];
  attempts: number;
  status: number | null;
  delivered_at: Date | null;
  actor: Held["what"]["actor"];
  event_at: Date | null;
};

const channelOf = (row: Raw): ChannelRow => ({
  ...{ id: row.id, teamId: row.team_id, name: row.name, provider: row.provider, config: row.config },
  ...{ events: row.events, createdAt: row.created_at, updatedAt: row.updated_at },
});

const deliveryOf = (row: Raw): DeliveryRow => ({
  ...{ id: row.id, event: row.event, state: row.state, attempts: row.attempts, dueAt: row.due_at },
  ...{ status: row.status, error: row.error, createdAt: row.created_at, deliveredAt: row.delivered_at },
});

const heldOf = (row: Raw): Held => ({
  ...{ id: row.id, event: row.event, attempts: row.attempts, createdAt: row.created_at },
  channel: { id: row.channel_id, teamId: row.team_id, provider: row.provider, config: row.config },
  what: { kind: row.kind, resource: row.resource_id, actor: row.actor, at: row.event_at ?? row.created_at },
});
