import { and, eq, sql } from "drizzle-orm";
import { oneTimeTokens } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** What a mailed link is for. */
export type Purpose = (typeof oneTimeTokens.$inferSelect)["purpose"];

/** Queries about links that open something once. */
export class TokenStore {
  constructor(readonly db: Queries) {}

  /** Keeps a token; others of the same purpose and person end. */
  async insert(row: { tokenHash: string; purpose: Purpose; userId: string }, lifeSec: number): Promise<void> {
    const { purpose, userId } = oneTimeTokens;
    await this.db.delete(oneTimeTokens).where(and(eq(purpose, row.purpose), eq(userId, row.userId)));
    await this.db
      .insert(oneTimeTokens)
      .values({ ...row, expiresAt: sql`now() + ${lifeSec} * interval '1 second'` as never });
  }

  /** Uses a token up; answers whose it is, `undefined` when it opens nothing. */
  async take(tokenHash: string, purpose: Purpose): Promise<string | undefined> {
    const [row] = await this.db
      .delete(oneTimeTokens)
      .where(and(eq(oneTimeTokens.tokenHash, tokenHash), eq(oneTimeTokens.purpose, purpose)))
      .returning({ userId: oneTimeTokens.userId, isOld: sql<boolean>`${oneTimeTokens.expiresAt} <= now()` });
    return row && !row.isOld ? row.userId : undefined;
  }
}
