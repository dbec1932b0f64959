import { and, eq, inArray, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import { buildCache, builds } from "../schema/index.ts";

/** What a step led to: a snapshot of a host. */
export type Kept = { snapshotId: string; hostId: string };

/** What steps of earlier builds led to, by the digest of everything a step depends on. */
export class BuildCache {
  constructor(readonly db: Database) {}

  /** Those of `keys` whose result is there; looking counts as use. */
  async find(team: string, keys: readonly string[]): Promise<Map<string, Kept>> {
    if (keys.length === 0) return new Map();
    const rows = await this.db
      .update(buildCache)
      .set({ usedAt: sql`now()` })
      .where(and(eq(buildCache.teamId, team), inArray(buildCache.key, [...keys])))
      .returning();
    return new Map(rows.map((row) => [row.key, row]));
  }

  /** Remembers a result, instead of an older one. */
  async put(team: string, key: string, { snapshotId, hostId }: Kept): Promise<void> {
    await this.db
      .insert(buildCache)
      .values({ teamId: team, key, snapshotId, hostId })
      .onConflictDoUpdate({
        target: [buildCache.teamId, buildCache.key],
        set: { snapshotId, hostId, usedAt: sql`now()` },
      });
  }

  /** Forgets a result that turned out to be gone. */
  async forget(snapshotId: string): Promise<void> {
    await this.db.delete(buildCache).where(eq(buildCache.snapshotId, snapshotId));
  }

  /** Forgets results that nobody used for `days`, and of each team all but the newest `count`. */
  async prune(days: number, count: number): Promise<void> {
    await this.db.execute(sql`delete from build_cache c using (
        select team_id, key, used_at, row_number() over (partition by team_id order by used_at desc) as place
        from build_cache) ranked
      where c.team_id = ranked.team_id and c.key = ranked.key
        and (ranked.place > ${count} or ranked.used_at < now() - ${days} * interval '1 day')`);
  }

  /** Snapshots of builds that neither a version, a remembered step nor a build under way needs. */
  async unneeded(): Promise<{ id: string; hostId: string; teamId: string }[]> {
    const rows = await this.db.execute(sql`select s.id, s.host_id as "hostId", s.team_id as "teamId" from snapshots s
      where s.of_build and s.created_at < now() - interval '1 minute'
        and not exists (select from ${buildCache} where snapshot_id = s.id)
        and not exists (select from ${builds} where snapshot_id = s.id)`);
    return rows as unknown as { id: string; hostId: string; teamId: string }[];
  }
}
