import { getTableColumns, sql } from "drizzle-orm";
import { Batch } from "../batch.ts";
import type { Database } from "./database.ts";
import { type NewSandbox, type SandboxRow, sandboxes } from "./schema/index.ts";

/** What a host's report says of a sandbox, and the state that it leads to. */
export type Reported = Pick<
  SandboxRow,
  | ("state" | "run" | "version" | "vcpus" | "memoryMib" | "diskMib" | "diskUsedBytes" | "diskOnly" | "timeoutSec")
  | ("guestIp" | "hostIp" | "versions" | "reason" | "origin" | "startedAt" | "lastActiveAt")
>;
/** A report with the row that it was compared with: the fence of its write. */
export type Report = { seen: Pick<SandboxRow, "id" | "hostId" | "state" | "run" | "version">; told: Reported };
/** What a new sandbox is to start from, by name. */
type Wanted = { team: string; name: string };

const columns = Object.entries(getTableColumns(sandboxes));
const nameOf = new Map<string, string>(columns.map(([key, { name }]) => [key, name]));

/** A row under the names that the table has. */
const named = (row: object) =>
  Object.fromEntries(Object.entries(row).map(([key, value]) => [nameOf.get(key)!, value as unknown]));

/** A row as the driver gives it. */
const rowOf = (raw: Record<string, unknown>): SandboxRow =>
  Object.fromEntries(
    columns.map(([key, column]) => {
      const value = raw[column.name];
      return [key, value === null ? null : column.mapFromDriverValue(value)];
    }),
  ) as SandboxRow;

/** What many creations do at once, in one statement for all of them (migration 0025). */
export class Batches {
  readonly #placing = new Batch<NewSandbox, SandboxRow | undefined>(async (rows) => {
    const made = await this.#rows(sql`select * from wrenn_place(${JSON.stringify(rows.map(named))}::text::jsonb)`);
    return rows.map(({ id }) => made.get(id));
  });
  readonly #reporting = new Batch<Report, SandboxRow | undefined>(async (reports) => {
    const all = JSON.stringify(reports.map(reportOf));
    const written = await this.#rows(sql`select * from wrenn_report(${all}::text::jsonb)`);
    return reports.map(({ seen }) => written.get(seen.id));
  });
  readonly #naming = new Batch<Wanted, boolean>((wanted) => this.#areNames(wanted));

  constructor(readonly db: Database) {}

  /** Inserts a row that is `starting`; `undefined` when its host has no room. */
  place(row: NewSandbox): Promise<SandboxRow | undefined> {
    return this.#placing.ask(row);
  }

  /** Writes a report; `undefined` when the row has changed since it was seen. */
  report(report: Report): Promise<SandboxRow | undefined> {
    return this.#reporting.ask(report);
  }

  /** Whether a team's snapshot, or a template that was built, may be meant by a name: most often none is. */
  isName(wanted: Wanted): Promise<boolean> {
    return this.#naming.ask(wanted);
  }

  async #rows(query: ReturnType<typeof sql>): Promise<Map<string, SandboxRow>> {
    const rows = (await this.db.execute(query)) as unknown as Record<string, unknown>[];
    return new Map(rows.map((raw) => [raw.id as string, rowOf(raw)]));
  }

  async #areNames(wanted: readonly Wanted[]): Promise<boolean[]> {
    const keys = [...new Set(wanted.map(({ team, name }) => JSON.stringify([team, name])))];
    const found = (await this.db.execute(sql`select n.key::text as key
      from jsonb_array_elements(${`[${keys.join()}]`}::text::jsonb) as n (key)
      where exists (select from snapshots s where s.team_id = n.key ->> 0 and s.name = n.key ->> 1 and not s.of_build)
        or exists (select from templates t where split_part(n.key ->> 1, ':', 1) in (t.name, t.id)
          and (t.platform or t.team_id = n.key ->> 0))`)) as unknown as { key: string }[];
    const names = new Set(found.map(({ key }) => JSON.stringify(JSON.parse(key))));
    return wanted.map(({ team, name }) => names.has(JSON.stringify([team, name])));
  }
}

function reportOf({ seen, told }: Report) {
  const { id, host_id, ...fence } = named(seen);
  return { id, host_id, seen_state: fence.state, seen_run: fence.run, seen_version: fence.version, ...named(told) };
}
