import { eq, sql } from "drizzle-orm";
import { type QuotaRow, quotas } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** The row for teams without limits of their own. */
export const everyTeam = "*";
/** What a team has now. */
export type TeamUse = { sandboxes: number; vcpus: number; memoryMb: number; diskMb: number };
/** Limits without whose they are. */
export type Limits = Omit<QuotaRow, "teamId">;

/** Queries about quotas; the database holds the sums itself (migration 0012). */
export class QuotaStore {
  constructor(readonly db: Queries) {}

  /** The limits of a team: its own, else those of every team. */
  async of(team: string): Promise<QuotaRow | undefined> {
    const [row] = await this.db
      .select()
      .from(quotas)
      .where(sql`${quotas.teamId} in (${team}, ${everyTeam})`)
      .orderBy(sql`${quotas.teamId} = ${everyTeam}`)
      .limit(1);
    return row;
  }

  /** Sets the limits of a team, or of every team. */
  async set(team: string, limits: Limits): Promise<void> {
    await this.db
      .insert(quotas)
      .values({ ...limits, teamId: team })
      .onConflictDoUpdate({ target: quotas.teamId, set: limits });
  }

  /** Takes a team's own limits away: those of every team hold. */
  async unset(team: string): Promise<void> {
    await this.db.delete(quotas).where(eq(quotas.teamId, team));
  }

  /** What a team has now. */
  async use(team: string): Promise<TeamUse> {
    const rows = (await this.db.execute(sql`select * from wrenn_team_use(${team}, '')`)) as unknown as Record<
      string,
      unknown
    >[];
    const of = (name: string) => Number(rows[0]?.[name] ?? 0);
    return { sandboxes: of("sandboxes"), vcpus: of("vcpus"), memoryMb: of("memory_mb"), diskMb: of("disk_mb") };
  }
}
