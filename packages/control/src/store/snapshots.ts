import { and, desc, eq, inArray, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { type NewSnapshot, type SnapshotRow, snapshots } from "./schema/index.ts";

/** A snapshot as its host took it: everything but what its owner calls it and says about it. */
export type Taken = Omit<NewSnapshot, "name" | "metadata" | "createdAt">;

/** In the metadata of a build's sandbox: which build. */
export const buildLabel = "wrenn_build";

/** 32 random bits, as existing clients expect; one that is taken is a conflict, and the next try has another. */
export const automaticName = (): string =>
  `template-${Buffer.from(crypto.getRandomValues(new Uint8Array(4))).toString("hex")}`;

/** Queries about snapshots. A name is one team's, and never changes. */
export class SnapshotStore {
  readonly #db: Database;
  readonly #named;

  constructor(db: Database) {
    this.#db = db;
    this.#named = db
      .select()
      .from(snapshots)
      .where(
        and(
          eq(snapshots.teamId, sql.placeholder("team")),
          eq(snapshots.name, sql.placeholder("name")),
          eq(snapshots.ofBuild, false),
        ),
      )
      .prepare("snapshot_by_name");
  }

  /** The team's snapshot of this name. */
  async named(team: string, name: string): Promise<SnapshotRow | undefined> {
    return (await this.#named.execute({ team, name }))[0];
  }

  /** The team's snapshot with this id. */
  async find(team: string, id: string): Promise<SnapshotRow | undefined> {
    const [row] = await this.#db
      .select()
      .from(snapshots)
      .where(and(eq(snapshots.teamId, team), eq(snapshots.id, id)));
    return row;
  }

  /** The snapshot with this id, of any team. */
  async byId(id: string): Promise<SnapshotRow | undefined> {
    return (await this.#db.select().from(snapshots).where(eq(snapshots.id, id)))[0];
  }

  /** A team's snapshots, newest first; without those of its builds. */
  async list(team: string): Promise<SnapshotRow[]> {
    return await this.#db
      .select()
      .from(snapshots)
      .where(and(eq(snapshots.teamId, team), eq(snapshots.ofBuild, false)))
      .orderBy(desc(snapshots.createdAt), desc(snapshots.id));
  }

  /** Inserts a row; `undefined` when the team has a snapshot of that name. */
  async insert(row: NewSnapshot): Promise<SnapshotRow | undefined> {
    return (await this.#db.insert(snapshots).values(row).onConflictDoNothing().returning())[0];
  }

  /** Gives each of two snapshots of a team the other's name. */
  async swapNames(one: SnapshotRow, other: SnapshotRow): Promise<void> {
    const rename = (id: string, name: string) => ({ id, name });
    await this.#db.transaction(async (transaction) => {
      // The name between is nobody's: automatic names have another shape.
      for (const { id, name } of [rename(one.id, `.${one.id}`), rename(other.id, one.name), rename(one.id, other.name)])
        await transaction.update(snapshots).set({ name }).where(eq(snapshots.id, id));
    });
  }

  /** Removes a row; what followed it in its line follows its parent then. */
  async remove(row: SnapshotRow): Promise<void> {
    await this.#db.transaction(async (transaction) => {
      await transaction.update(snapshots).set({ parentId: row.parentId }).where(eq(snapshots.parentId, row.id));
      await transaction.delete(snapshots).where(eq(snapshots.id, row.id));
    });
  }

  /** Names of the snapshots with these ids; those that are gone are left out. */
  async names(ids: readonly string[]): Promise<Map<string, string>> {
    const wanted = [...new Set(ids)].filter((id) => id !== "");
    if (wanted.length === 0) return new Map();
    const { id, name } = snapshots;
    const rows = await this.#db.select({ id, name }).from(snapshots).where(inArray(id, wanted));
    return new Map(rows.map((row) => [row.id, row.name]));
  }

  /** Whether `ancestor` is `start` or stands before it in its line. */
  async isInLine(ancestor: string, start: string): Promise<boolean> {
    const found = await this.#db.execute(sql`with recursive line (id) as (
        select ${start}::text union select parent_id from snapshots join line using (id)
      ) select 1 from line where id = ${ancestor}`);
    return found.length > 0;
  }
}
