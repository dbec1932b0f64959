import type { SandboxId } from "@wrenn/contract";
import { and, eq, inArray, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { hiddenStates } from "./phase.ts";
import { NoRoom, naming } from "./sandboxes.ts";
import { idempotencyKeys, type NewSandbox, type SandboxRow, sandboxes } from "./schema/index.ts";

/** How long a key stands for the sandbox that was made under it. */
const keptHours = 24;

/** A caller's key for one creation, and the digest of what it asked for. */
export type Once = { key: string; digest: string };
/** What a key stands for. */
export type Claimed = { id: SandboxId; digest: string };

const isOld = sql`${idempotencyKeys.createdAt} < now() - ${keptHours} * interval '1 hour'`;
/** A creation that failed has made nothing: its key is free for another try. */
const hasFailed = sql`exists (select from ${sandboxes} where ${sandboxes.id} = ${idempotencyKeys.sandboxId}
  and ${sandboxes.startedAt} is null and ${inArray(sandboxes.state, [...hiddenStates])})`;

class Taken extends Error {}

/** Queries about idempotency keys. */
export class OnceStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** What a team's key stands for, if it stands for anything. */
  async find(team: string, key: string): Promise<Claimed | undefined> {
    const [row] = await this.#db
      .select({ id: idempotencyKeys.sandboxId, digest: idempotencyKeys.digest })
      .from(idempotencyKeys)
      .where(
        and(eq(idempotencyKeys.teamId, team), eq(idempotencyKeys.key, key), sql`not ${isOld}`, sql`not ${hasFailed}`),
      );
    return row;
  }

  /**
   * Inserts a sandbox together with its key; `undefined`, and nothing is inserted, when the key stands for another.
   * Throws {@link NoRoom} and `NameTaken`.
   */
  async insert(row: NewSandbox, { key, digest }: Once): Promise<SandboxRow | undefined> {
    await this.#db.delete(idempotencyKeys).where(isOld);
    const claim = { digest, sandboxId: row.id };
    try {
      return await this.#db.transaction(async (transaction) => {
        const [made] = await naming(transaction.insert(sandboxes).values(row).returning());
        if (!made) throw new NoRoom();
        const claimed = await transaction
          .insert(idempotencyKeys)
          .values({ ...claim, teamId: row.teamId, key })
          .onConflictDoUpdate({
            target: [idempotencyKeys.teamId, idempotencyKeys.key],
            set: { ...claim, createdAt: sql`now()` },
            setWhere: hasFailed,
          })
          .returning({ key: idempotencyKeys.key });
        if (claimed.length === 0) throw new Taken();
        return made;
      });
    } catch (thrown) {
      if (thrown instanceof Taken) return undefined;
      throw thrown;
    }
  }

  /** Frees the key of a creation that failed. */
  async release(team: string, key: string, id: SandboxId): Promise<void> {
    const { teamId, key: name, sandboxId } = idempotencyKeys;
    await this.#db.delete(idempotencyKeys).where(and(eq(teamId, team), eq(name, key), eq(sandboxId, id)));
  }
}
