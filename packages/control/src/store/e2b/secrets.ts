import { and, desc, eq, lte, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import { type SecretRow, secrets, secretVersions } from "../schema/index.ts";

/** Versions of a secret that are kept, the current one among them: a value that changes daily must not fill the disk. */
const keptVersions = 100;

/** Which secret of a team: its id, or the name in small letters. */
export type SecretRef = { team: string; by: "id" | "name"; text: string };
/** Which secrets of a team: the first `limit` after a place, newest first. */
export type SecretPage = { team: string; limit: number; after: { createdAt: Date; id: string } | undefined };

/** Queries about secrets. Values come and go encrypted. */
export class SecretStore {
  constructor(readonly db: Database) {}

  /** Keeps a secret with its first version; `undefined` when the team has one of that name. */
  insert(row: Pick<SecretRow, "id" | "teamId" | "name" | "metadata">, value: string): Promise<SecretRow | undefined> {
    return this.db.transaction(async (inside) => {
      const [made] = await inside.insert(secrets).values(row).onConflictDoNothing().returning();
      if (made) await inside.insert(secretVersions).values({ secretId: made.id, version: made.currentVersion, value });
      return made;
    });
  }

  /** A secret. */
  async find({ team, by, text }: SecretRef): Promise<SecretRow | undefined> {
    const [row] = await this.db
      .select()
      .from(secrets)
      .where(and(eq(secrets.teamId, team), eq(secrets[by], text)));
    return row;
  }

  /** The value that a secret has now, encrypted. */
  async current(team: string, name: string): Promise<{ id: string; value: string } | undefined> {
    const [row] = await this.db
      .select({ id: secrets.id, value: secretVersions.value })
      .from(secrets)
      .innerJoin(
        secretVersions,
        and(eq(secretVersions.secretId, secrets.id), eq(secretVersions.version, secrets.currentVersion)),
      )
      .where(and(eq(secrets.teamId, team), eq(secrets.name, name)));
    return row;
  }

  /** A page of a team's secrets. */
  list({ team, limit, after }: SecretPage): Promise<SecretRow[]> {
    const place = after && sql`(${secrets.createdAt}, ${secrets.id}) < (${after.createdAt.toISOString()}, ${after.id})`;
    return this.db
      .select()
      .from(secrets)
      .where(and(eq(secrets.teamId, team), place))
      .orderBy(desc(secrets.createdAt), desc(secrets.id))
      .limit(limit);
  }

  /** Adds a version, which is then the current one; `undefined` when the secret is gone. */
  append(id: string, value: string, metadata: SecretRow["metadata"] | undefined): Promise<SecretRow | undefined> {
    return this.db.transaction(async (inside) => {
      const [row] = await inside
        .update(secrets)
        .set({
          ...(metadata && { metadata }),
          currentVersion: sql`${secrets.currentVersion} + 1`,
          updatedAt: sql`now()`,
        })
        .where(eq(secrets.id, id))
        .returning();
      if (!row) return undefined;
      const { currentVersion: version } = row;
      await inside.insert(secretVersions).values({ secretId: id, version, value });
      const old = lte(secretVersions.version, version - keptVersions);
      await inside.delete(secretVersions).where(and(eq(secretVersions.secretId, id), old));
      return row;
    });
  }

  /** Removes a secret with every version of it. Answers whether it was there. */
  async remove(id: string): Promise<boolean> {
    const gone = await this.db.delete(secrets).where(eq(secrets.id, id)).returning({ id: secrets.id });
    return gone.length === 1;
  }
}
