import { and, desc, eq, inArray, isNotNull } from "drizzle-orm";
import type { Database } from "../database.ts";
import { teams, type VolumeRow, volumes } from "../schema/index.ts";

/** Queries about volumes. */
export class VolumeStore {
  constructor(readonly db: Database) {}

  /** Keeps a volume; `undefined` when the team has one of that name. */
  async insert(row: Omit<VolumeRow, "createdAt">): Promise<VolumeRow | undefined> {
    const [made] = await this.db.insert(volumes).values(row).onConflictDoNothing().returning();
    return made;
  }

  /** A volume, of any team. */
  async find(id: string): Promise<VolumeRow | undefined> {
    const [row] = await this.db.select().from(volumes).where(eq(volumes.id, id));
    return row;
  }

  /** A team's volumes, newest first. */
  list(team: string): Promise<VolumeRow[]> {
    const newestFirst = [desc(volumes.createdAt), desc(volumes.id)];
    return this.db
      .select()
      .from(volumes)
      .where(eq(volumes.teamId, team))
      .orderBy(...newestFirst);
  }

  /** A team's volumes of these names. */
  named(team: string, names: readonly string[]): Promise<VolumeRow[]> {
    return this.db
      .select()
      .from(volumes)
      .where(and(eq(volumes.teamId, team), inArray(volumes.name, [...names])));
  }

  /** Volumes whose team was deleted. */
  async ownerless(limit: number): Promise<VolumeRow[]> {
    const rows = await this.db
      .select({ row: volumes })
      .from(volumes)
      .innerJoin(teams, eq(teams.id, volumes.teamId))
      .where(isNotNull(teams.deletedAt))
      .limit(limit);
    return rows.map(({ row }) => row);
  }

  /** Removes a volume of a team. */
  async remove({ id, teamId }: Pick<VolumeRow, "id" | "teamId">): Promise<void> {
    await this.db.delete(volumes).where(and(eq(volumes.id, id), eq(volumes.teamId, teamId)));
  }
}
