import { randomId } from "@wrenn/contract";
import { asc, desc, eq, lt, sql } from "drizzle-orm";
import { mails } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** A mail that waits. */
export type MailRow = typeof mails.$inferSelect;

/** Mails taken at once, and for how long no other replica takes them. */
const batch = 10;
const leaseSec = 60;
/** A mail that could not be sent within a day is of no use any more: its links are dead. */
const keptHours = 24;
/** How many letters a development outbox shows. */
const outboxSize = 100;

/** Queries about mails that wait to be sent. */
export class MailStore {
  constructor(readonly db: Queries) {}

  /** Puts a mail into the queue. */
  async insert(mail: Pick<MailRow, "recipient" | "subject" | "letter">): Promise<void> {
    await this.db.insert(mails).values({ ...mail, id: randomId() });
  }

  /** Takes what is due; nobody else does for a while, so a sender that dies loses nothing. */
  async take(): Promise<MailRow[]> {
    const due = this.db
      .select({ id: mails.id })
      .from(mails)
      .where(sql`${mails.dueAt} <= now()`)
      .orderBy(asc(mails.dueAt))
      .limit(batch)
      .for("update", { skipLocked: true });
    return await this.db
      .update(mails)
      .set({ dueAt: sql`now() + ${leaseSec} * interval '1 second'`, attempts: sql`${mails.attempts} + 1` })
      .where(sql`${mails.id} in ${due}`)
      .returning();
  }

  /** A mail that was sent is forgotten. */
  async sent(id: string): Promise<void> {
    await this.db.delete(mails).where(eq(mails.id, id));
  }

  /** Tries again after `delaySec`. */
  async failed(id: string, error: string, delaySec: number): Promise<void> {
    await this.db
      .update(mails)
      .set({ error, dueAt: sql`now() + ${delaySec} * interval '1 second'` })
      .where(eq(mails.id, id));
  }

  /** Forgets what waited for too long; answers how many. */
  async prune(): Promise<number> {
    const gone = await this.db
      .delete(mails)
      .where(lt(mails.createdAt, sql`now() - ${keptHours} * interval '1 hour'`))
      .returning({ id: mails.id });
    return gone.length;
  }

  /** What waits, newest first. */
  async newest(): Promise<MailRow[]> {
    return await this.db.select().from(mails).orderBy(desc(mails.createdAt), desc(mails.id)).limit(outboxSize);
  }
}
