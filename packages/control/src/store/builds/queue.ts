import { and, asc, desc, eq, gt, gte, inArray, lte, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import { type BuildRow, buildLogs, builds, type LogRow, type LogStream, type NewBuild } from "../schema/index.ts";

/** Who is silent for this long has died, and its builds are taken over. */
export const leaseSec = 30;

/** Columns that a build's progress changes. */
export type BuildChange = Partial<Omit<NewBuild, "id" | "teamId" | "templateId" | "createdAt">>;
/** Lines of a log by what they are: from a time on, or with `newestFirst` back from it. */
export type LogQuery = { at: Date | undefined; newestFirst: boolean; streams: readonly LogStream[]; limit: number };
/** A line to log. */
export type LogLine = { at: Date; step: number; stream: LogStream; message: string };

const active = ["waiting", "pending", "running"] as const;

/** The queue of builds. All replicas of one database share it: a build is its lease holder's as long as the lease lasts. */
export class BuildStore {
  constructor(readonly db: Database) {}

  /** Writes a build down. */
  async insert(row: NewBuild): Promise<BuildRow> {
    return (await this.db.insert(builds).values(row).returning())[0]!;
  }

  /** The team's build with this id; of any team when none is named. */
  async find(id: string, team?: string): Promise<BuildRow | undefined> {
    const isOurs = team === undefined ? undefined : eq(builds.teamId, team);
    return (
      await this.db
        .select()
        .from(builds)
        .where(and(eq(builds.id, id), isOurs))
    )[0];
  }

  /** Builds, newest first: of a team, or of all; of one template, or of all. */
  async list(filter: { team?: string | undefined; template?: string | undefined; limit: number }): Promise<BuildRow[]> {
    return await this.db
      .select()
      .from(builds)
      .where(
        and(
          filter.team === undefined ? undefined : eq(builds.teamId, filter.team),
          filter.template === undefined ? undefined : eq(builds.templateId, filter.template),
        ),
      )
      .orderBy(desc(builds.number))
      .limit(filter.limit);
  }

  /**
   * Takes the next build: the oldest of the team that has the fewest under way. One whose holder is silent counts as
   * waiting again. No two callers get the same.
   */
  async claim(owner: string): Promise<BuildRow | undefined> {
    return await this.db.transaction(async (transaction) => {
      const found = await transaction.execute<{ id: string }>(sql`
        select id from builds b
        where status = 'pending' or (status = 'running' and lease_until < now())
        order by (select count(*) from builds o where o.team_id = b.team_id and o.status = 'running'), number
        for update skip locked limit 1`);
      const id = (found as unknown as { id: string }[])[0]?.id;
      if (id === undefined) return undefined;
      const [row] = await transaction
        .update(builds)
        .set({
          ...{ status: "running", leaseOwner: owner, leaseUntil: lease(), attempts: sql`attempts + 1` },
          startedAt: sql`coalesce(started_at, now())`,
        })
        .where(eq(builds.id, id))
        .returning();
      return row;
    });
  }

  /** Prolongs leases; answers the builds that are still the owner's, and whether somebody wants them cancelled. */
  async hold(owner: string): Promise<Map<string, { cancelled: boolean }>> {
    const rows = await this.db
      .update(builds)
      .set({ leaseUntil: lease() })
      .where(and(eq(builds.leaseOwner, owner), eq(builds.status, "running")))
      .returning({ id: builds.id, cancelled: builds.cancelAsked });
    return new Map(rows.map(({ id, cancelled }) => [id, { cancelled }]));
  }

  /** Writes progress of a build that `owner` holds; `undefined`, and nothing is written, when it does not any more. */
  async progress(id: string, owner: string, change: BuildChange): Promise<BuildRow | undefined> {
    const isHeld = and(eq(builds.id, id), eq(builds.leaseOwner, owner), eq(builds.status, "running"));
    return (await this.db.update(builds).set(change).where(isHeld).returning())[0];
  }

  /** Gives back what `owner` holds, so that another takes it at once. */
  async release(owner: string): Promise<void> {
    const isHeld = and(eq(builds.leaseOwner, owner), eq(builds.status, "running"));
    await this.db.update(builds).set({ status: "pending", leaseOwner: "", leaseUntil: null }).where(isHeld);
  }

  /** Completes an announced build. `undefined` when it was started before. */
  async submit(id: string, change: BuildChange): Promise<BuildRow | undefined> {
    const isWaiting = and(eq(builds.id, id), eq(builds.status, "waiting"));
    return (
      await this.db
        .update(builds)
        .set({ ...change, status: "pending" })
        .where(isWaiting)
        .returning()
    )[0];
  }

  /** Cancels a build that waits, and asks the holder of one that runs. `undefined` when it is over. */
  async cancel(id: string): Promise<BuildRow | undefined> {
    const isActive = and(eq(builds.id, id), inArray(builds.status, [...active]));
    const status = sql<BuildRow["status"]>`case when status = 'running' then status else 'cancelled' end`;
    const completedAt = sql`case when status = 'running' then null else now() end`;
    const secret = sql`case when status = 'running' then secret else '' end`; // a build that is over has none
    const change = { cancelAsked: true, status, completedAt, secret };
    return (await this.db.update(builds).set(change).where(isActive).returning())[0];
  }

  /** How many builds of a team wait or run. */
  async unfinished(team: string): Promise<number> {
    return await this.db.$count(builds, and(eq(builds.teamId, team), inArray(builds.status, [...active])));
  }

  /** Appends to a build's log. */
  async log(build: string, lines: readonly LogLine[]): Promise<void> {
    if (lines.length > 0) await this.db.insert(buildLogs).values(lines.map((line) => ({ ...line, buildId: build })));
  }

  /** Lines of a build's log behind `after`, in order. */
  async logs(build: string, after: number, limit: number): Promise<LogRow[]> {
    const isNext = and(eq(buildLogs.buildId, build), gt(buildLogs.seq, after));
    return await this.db.select().from(buildLogs).where(isNext).orderBy(asc(buildLogs.seq)).limit(limit);
  }

  /** Lines of a build's log from the one at place `offset` on. */
  async page(build: string, offset: number, limit: number): Promise<LogRow[]> {
    const isIts = eq(buildLogs.buildId, build);
    return await this.db.select().from(buildLogs).where(isIts).orderBy(asc(buildLogs.seq)).offset(offset).limit(limit);
  }

  /** Lines of a build's log of some kinds. */
  async search(build: string, { at, newestFirst, streams, limit }: LogQuery): Promise<LogRow[]> {
    const isBeyond = at && (newestFirst ? lte(buildLogs.at, at) : gte(buildLogs.at, at));
    const isIts = and(eq(buildLogs.buildId, build), inArray(buildLogs.stream, [...streams]), isBeyond);
    const order = newestFirst ? desc(buildLogs.seq) : asc(buildLogs.seq);
    return await this.db.select().from(buildLogs).where(isIts).orderBy(order).limit(limit);
  }
}

const lease = () => sql`now() + ${leaseSec} * interval '1 second'`;
