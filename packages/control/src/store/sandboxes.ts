import { type Event, type SandboxId, type State, states, step } from "@wrenn/contract";
import { SQL } from "bun";
import { and, asc, count, desc, eq, gt, gte, inArray, lt, ne, or, sql } from "drizzle-orm";
import { Batches, type Report } from "./batches.ts";
import type { Database } from "./database.ts";
import { KeptRows, type Versioned } from "./kept.ts";
import { lostStates, movingStates } from "./phase.ts";
import { hosts, type NewSandbox, type SandboxRow, sandboxes } from "./schema/index.ts";

/** What a row looked like when it was read: the fence of the write that follows. `expired`: its time must be up. */
export type Seen = Pick<SandboxRow, "id" | "state" | "run"> & { expired?: boolean };
/** Columns that a change may set. */
export type Change = Partial<Omit<NewSandbox, "id" | "teamId" | "createdAt">>;
/** Which rows a list shows. */
export type ListFilter = {
  states: readonly State[];
  name?: string | undefined;
  template?: string | undefined;
  metadata?: Readonly<Record<string, string>> | undefined;
  createdFrom?: Date | undefined;
  limit: number;
  after?: { createdAt: Date; id: SandboxId } | undefined;
  oldestFirst?: boolean;
};

/** States that become `missing` when their host is out of reach. A deletion stays wanted, so `stopping` is left alone. */
const losable = states.filter((state) => step(state, "lost") === "missing" && state !== "stopping");
/** Written out, so that PostgreSQL sees that the index of such rows (migration 0051) has them all. */
const unsettledNames = [...movingStates, ...lostStates].map((state) => `'${state}'`).join(", ");
const isUnsettled = sql`${sandboxes.state} in (${sql.raw(unsettledNames)})`;
const isDue = sql`${sandboxes.endAt} <= now()`;
/** Which transaction wrote a row: another for each of its versions (PostgreSQL documentation, 5.6). */
const rowVersion = sql<string>`${sandboxes}.xmin::text`;
const byId = eq(sandboxes.id, sql.placeholder("id"));

/** It was on its way from the object store, which has it still. */
const isReturning = sql`${sandboxes.parcel} <> '' and ${sandboxes.state} = 'resuming'`;

/** The database refuses to reserve more of a host than it has, or anything of one that takes no new sandboxes. */
export class NoRoom extends Error {}

/** Another living sandbox of the team has this name. */
export class NameTaken extends Error {}

/** What `write` answers. Throws {@link NameTaken} when it would give two sandboxes one name. */
export async function naming<T>(write: Promise<T>): Promise<T> {
  try {
    return await write;
  } catch (thrown) {
    for (let at = thrown; at instanceof Error; at = at.cause)
      if (at instanceof SQL.PostgresError && at.constraint === "sandboxes_name") throw new NameTaken();
    throw thrown;
  }
}

/** Queries about sandboxes. Every change is fenced: it takes effect only if the row still is what the caller saw. */
export class SandboxStore {
  readonly #db: Database;
  readonly #one;
  readonly #changed: ((id: string) => void)[] = [];
  readonly #batches: Batches;
  readonly #kept = new KeptRows();

  constructor(db: Database) {
    this.#db = db;
    this.#batches = new Batches(db);
    this.#one = db.select().from(sandboxes).where(byId).prepare("sandbox_by_id");
  }

  /** Calls `listener` with the id of every sandbox that this process changes. */
  onChange(listener: (id: string) => void): void {
    this.#changed.push(listener);
  }

  /** The row with this id, of any team. */
  async find(id: string): Promise<SandboxRow | undefined> {
    return (await this.#one.execute({ id }))[0];
  }

  /** Inserts a row, which reserves its memory. Throws {@link NoRoom} and {@link NameTaken}. */
  async insert(row: NewSandbox): Promise<SandboxRow> {
    const [made] = await naming(this.#db.insert(sandboxes).values(row).returning());
    if (made) return made;
    throw new NoRoom();
  }

  /** As {@link insert} of a row that is `starting`, together with those of others at the same time. */
  async place(row: NewSandbox): Promise<SandboxRow> {
    const made = await naming(this.#batches.place(row));
    if (made) return made;
    throw new NoRoom();
  }

  /** Writes what a host said, together with what others said; `undefined` when the row has changed since it was seen. */
  async report(report: Report): Promise<SandboxRow | undefined> {
    const row = await this.#batches.report(report);
    for (const listener of this.#changed) listener(report.seen.id);
    return row;
  }

  /** Whether `name` may stand for a team's snapshot, or a template that was built: not whether it may start from it. */
  async isName(team: string, name: string): Promise<boolean> {
    return await this.#batches.isName({ team, name });
  }

  /** A team's rows, newest first unless the filter says otherwise. */
  async list(team: string, filter: ListFilter): Promise<SandboxRow[]> {
    const { after } = filter;
    const [order, beyond] = filter.oldestFirst ? [asc, gt] : [desc, lt];
    const heads = await this.#db
      .select({ id: sandboxes.id, version: rowVersion })
      .from(sandboxes)
      .where(
        and(
          shown(team, filter),
          after &&
            or(
              beyond(sandboxes.createdAt, after.createdAt),
              and(eq(sandboxes.createdAt, after.createdAt), beyond(sandboxes.id, after.id)),
            ),
        ),
      )
      .orderBy(order(sandboxes.createdAt), order(sandboxes.id))
      .limit(filter.limit);
    return await this.#kept.rows(heads, (ids) => this.#versioned(ids));
  }

  async #versioned(ids: readonly SandboxId[]): Promise<Versioned[]> {
    const isOne = sql`${sandboxes.id} in (select jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb))`;
    return await this.#db.select({ row: sandboxes, version: rowVersion }).from(sandboxes).where(isOne);
  }

  /** How many rows a list of all pages would show. */
  async total(team: string, filter: Omit<ListFilter, "limit" | "after">): Promise<number> {
    return await this.#db.$count(sandboxes, shown(team, filter));
  }

  /** Running rows whose time is up, the longest overdue first. */
  async due(limit: number): Promise<SandboxRow[]> {
    return await this.#db
      .select()
      .from(sandboxes)
      .where(and(eq(sandboxes.state, "running"), isDue))
      .orderBy(asc(sandboxes.endAt))
      .limit(limit);
  }

  /**
   * Gives a running sandbox another end; with `later` only if that is later, and none to one that has none. `undefined`
   * when it does not run.
   */
  async setEnd(id: SandboxId, endAt: Date, later: boolean): Promise<SandboxRow | undefined> {
    const value = sql`${endAt.toISOString()}::timestamptz`;
    const [row] = await this.#db
      .update(sandboxes)
      .set({
        endAt: later ? sql`case when ${sandboxes.endAt} < ${value} then ${value} else ${sandboxes.endAt} end` : value,
        updatedAt: sql`now()`,
      })
      .where(and(eq(sandboxes.id, id), eq(sandboxes.state, "running")))
      .returning();
    return row;
  }

  /**
   * Gives a row another name or other labels, if these still are as `seen` has them. `undefined` when they are not.
   * Throws {@link NameTaken}.
   */
  async label(
    seen: Pick<SandboxRow, "id" | "name" | "metadata">,
    labels: Partial<Pick<SandboxRow, "name" | "metadata">>,
  ): Promise<SandboxRow | undefined> {
    const asSeen = sql`${sandboxes.metadata} = ${JSON.stringify(seen.metadata)}::text::jsonb`;
    const [row] = await naming(
      this.#db
        .update(sandboxes)
        .set({ ...labels, updatedAt: sql`now()` })
        .where(and(eq(sandboxes.id, seen.id), eq(sandboxes.name, seen.name), asSeen))
        .returning(),
    );
    return row;
  }

  /** Every running row's id. */
  async running(): Promise<SandboxId[]> {
    const rows = await this.#db.select({ id: sandboxes.id }).from(sandboxes).where(eq(sandboxes.state, "running"));
    return rows.map(({ id }) => id);
  }

  /** Running rows, of a team or of all, whose network policy has this text in it. */
  async runningWithPolicy(text: string, team?: string): Promise<SandboxRow[]> {
    const holds = sql`strpos(${sandboxes.network}::text, ${text}) > 0`;
    return await this.#db
      .select()
      .from(sandboxes)
      .where(and(team === undefined ? undefined : eq(sandboxes.teamId, team), eq(sandboxes.state, "running"), holds));
  }

  /** How many rows are in each state; those that are stopped are not counted. */
  async counts(): Promise<Map<string, number>> {
    const rows = await this.#db
      .select({ state: sandboxes.state, count: count() })
      .from(sandboxes)
      .where(ne(sandboxes.state, "stopped"))
      .groupBy(sandboxes.state);
    return new Map(rows.map((row) => [row.state, row.count]));
  }

  /** Rows of a host that are not stopped. */
  async onHost(host: string): Promise<SandboxRow[]> {
    return await this.#db
      .select()
      .from(sandboxes)
      .where(and(eq(sandboxes.hostId, host), ne(sandboxes.state, "stopped")));
  }

  /** Every row between two settled states, or whose host was out of reach, with the time since its last change. */
  async unsettled(): Promise<{ row: SandboxRow; ageMs: number }[]> {
    const age = sql<number>`extract(epoch from now() - ${sandboxes.updatedAt}) * 1000`.mapWith(Number);
    return await this.#db.select({ row: sandboxes, ageMs: age }).from(sandboxes).where(isUnsettled);
  }

  /** Takes the arrow `event` from `seen`; `undefined` when there is no such arrow or the row has changed since. */
  async advance(seen: Seen, event: Event, change: Change = {}): Promise<SandboxRow | undefined> {
    const state = step(seen.state, event);
    return state && (await this.write(seen, { ...change, state }));
  }

  /** Writes `change` if state and run are still as seen, and the version too when `seen` has one. */
  async write(seen: Seen & { version?: number }, change: Change): Promise<SandboxRow | undefined> {
    const fence = [eq(sandboxes.id, seen.id), eq(sandboxes.state, seen.state), eq(sandboxes.run, seen.run)];
    if (seen.version !== undefined) fence.push(eq(sandboxes.version, seen.version));
    if (seen.expired) fence.push(isDue);
    const set = { ...change, updatedAt: sql`now()` };
    const [row] = await this.#db
      .update(sandboxes)
      .set(set)
      .where(and(...fence))
      .returning();
    for (const listener of this.#changed) listener(seen.id);
    return row;
  }

  /** Marks what a host was running as `missing`, unless some replica has heard of the host within `silenceMs`. */
  async lose(host: string, silenceMs: number): Promise<string[]> {
    const silent = sql`coalesce((select ${hosts.lastSeenAt} from ${hosts} where ${hosts.id} = ${host}), '-infinity')
      < now() - ${silenceMs} * interval '1 millisecond'`;
    const rows = await this.#db
      .update(sandboxes)
      .set({ state: sql`case when ${isReturning} then 'paused' else 'missing' end`, updatedAt: sql`now()` })
      .where(and(eq(sandboxes.hostId, host), inArray(sandboxes.state, losable), silent))
      .returning({ id: sandboxes.id });
    for (const { id } of rows) for (const listener of this.#changed) listener(id);
    return rows.map((row) => row.id);
  }
}

const shown = (team: string, { states, name, template, metadata, createdFrom }: Omit<ListFilter, "limit" | "after">) =>
  and(
    eq(sandboxes.teamId, team),
    inArray(sandboxes.state, [...states]),
    name === undefined ? undefined : eq(sandboxes.name, name),
    template === undefined ? undefined : eq(sandboxes.template, template),
    metadata && sql`${sandboxes.metadata} @> ${JSON.stringify(metadata)}::text::jsonb`,
    createdFrom && gte(sandboxes.createdAt, createdFrom),
  );
