import { eq, lt, sql } from "drizzle-orm";
import { attempts } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** A leaky bucket: it holds `size` attempts and drains from full to empty within `drainSec`. */
export type Bucket = { name: string; size: number; drainSec: number };

/** Leaky buckets that all replicas share, each kept as the time at which it is empty (the generic cell rate algorithm). */
export class AttemptStore {
  constructor(readonly db: Queries) {}

  /** Notes an attempt. Answers 0, or how many seconds to wait until there is room for it; then nothing is noted. */
  async note({ name, size, drainSec }: Bucket): Promise<number> {
    const step = sql`${drainSec / size} * interval '1 second'`;
    const noted = await this.db
      .insert(attempts)
      .values({ bucket: name, emptyAt: sql`now() + ${step}` as never })
      .onConflictDoUpdate({
        target: attempts.bucket,
        set: { emptyAt: sql`greatest(${attempts.emptyAt}, now()) + ${step}` },
        setWhere: sql`greatest(${attempts.emptyAt}, now()) + ${step} <= now() + ${drainSec + 0.001} * interval '1 second'`,
      })
      .returning({ bucket: attempts.bucket });
    if (noted.length === 1) return 0;
    const [row] = await this.db
      .select({ wait: sql<number>`extract(epoch from ${attempts.emptyAt} + ${step} - now())::float8 - ${drainSec}` })
      .from(attempts)
      .where(eq(attempts.bucket, name));
    return Math.max(1, Math.ceil(Number(row?.wait ?? 1)));
  }

  /** Empties a bucket. */
  async clear(name: string): Promise<void> {
    await this.db.delete(attempts).where(eq(attempts.bucket, name));
  }

  /** Forgets buckets that are empty anyway. */
  async prune(): Promise<void> {
    await this.db.delete(attempts).where(lt(attempts.emptyAt, sql`now()`));
  }
}
