import { and, asc, desc, eq, gt, gte, inArray, isNull, lt, or, sql } from "drizzle-orm";
import { type AuditRow, auditHeads, auditLogs } from "../schema/index.ts";
import { deedsChannel } from "./changes.ts";
import type { Queries } from "./queries.ts";

/** An entry before it is sealed. */
export type NewAudit = Omit<typeof auditLogs.$inferInsert, "n" | "seq" | "hash">;
/** Which entries are wanted. */
export type AuditFilter = {
  teams: readonly string[] | "all";
  scopes: readonly AuditRow["scope"][];
  resourceTypes?: readonly string[] | undefined;
  actions?: readonly string[] | undefined;
  from?: Date | undefined;
  to?: Date | undefined;
  before?: { at: Date; id: string } | undefined;
  limit: number;
};
/** The keyed hash of an entry that follows another. */
export type Seal = (previous: string, row: AuditRow, seq: number) => string;

/** Rows sealed in one transaction. */
const sealBatch = 1_000;
/** The hash before the first entry of a chain. */
export const chainStart = "0".repeat(64);

/** An unknown id stands before every entry of its time. */
const numberOf = (id: string) => sql<number>`coalesce((select at.n from audit_logs at where at.id = ${id}), 0)`;

/** Tells every replica what kinds of things were changed in which teams. */
const told = (rows: readonly NewAudit[]) => {
  const topics = [...new Set(rows.map((row) => `${row.teamId} ${row.resourceType}`))];
  return sql`select pg_notify(${deedsChannel}, topic) from (values ${sql.join(
    topics.map((topic) => sql`(${topic})`),
    sql`, `,
  )}) as told (topic)`;
};

/** Queries about the audit log. */
export class AuditStore {
  constructor(readonly db: Queries) {}

  /** Writes entries down, in their order. */
  async insert(rows: readonly NewAudit[]): Promise<void> {
    if (rows.length === 0) return;
    await this.db.transaction(async (inside) => {
      await inside.insert(auditLogs).values([...rows]);
      await inside.execute(told(rows));
    });
  }

  /** Entries, newest first. */
  async list(filter: AuditFilter): Promise<AuditRow[]> {
    const { createdAt, n } = auditLogs;
    const { before } = filter;
    return await this.db
      .select()
      .from(auditLogs)
      .where(
        and(
          filter.teams === "all" ? undefined : inArray(auditLogs.teamId, [...filter.teams]),
          inArray(auditLogs.scope, [...filter.scopes]),
          filter.resourceTypes && inArray(auditLogs.resourceType, [...filter.resourceTypes]),
          filter.actions && inArray(auditLogs.action, [...filter.actions]),
          filter.from && gte(createdAt, filter.from),
          filter.to && lt(createdAt, filter.to),
          before && or(lt(createdAt, before.at), and(eq(createdAt, before.at), lt(n, numberOf(before.id)))),
        ),
      )
      .orderBy(desc(createdAt), desc(n))
      .limit(filter.limit);
  }

  /** Seals what is not sealed yet; only one replica at a time does. Answers whether there may be more. */
  async seal(seal: Seal): Promise<boolean> {
    return await this.db.transaction(async (inside) => {
      await inside.execute(sql`select pg_advisory_xact_lock(hashtext('wrenn_audit'))`);
      const rows = await inside
        .select()
        .from(auditLogs)
        .where(isNull(auditLogs.seq))
        .orderBy(asc(auditLogs.n))
        .limit(sealBatch);
      if (rows.length === 0) return false;
      const teams = [...new Set(rows.map(({ teamId }) => teamId))];
      const found = await inside.select().from(auditHeads).where(inArray(auditHeads.teamId, teams));
      const heads = new Map(found.map((head) => [head.teamId, head]));
      const sealed = rows.map((row) => {
        const { seq, hash } = heads.get(row.teamId) ?? { seq: 0, hash: chainStart };
        const next = { teamId: row.teamId, seq: seq + 1, hash: seal(hash, row, seq + 1) };
        heads.set(row.teamId, next);
        return sql`(${row.n}::bigint, ${next.seq}::bigint, ${next.hash})`;
      });
      await inside.execute(sql`update audit_logs set seq = sealed.seq, hash = sealed.hash
        from (values ${sql.join(sealed, sql`, `)}) as sealed (n, seq, hash) where audit_logs.n = sealed.n`);
      for (const head of heads.values())
        await inside.insert(auditHeads).values(head).onConflictDoUpdate({ target: auditHeads.teamId, set: head });
      return rows.length === sealBatch;
    });
  }

  /** The end of a team's chain. */
  async head(team: string): Promise<{ seq: number; hash: string } | undefined> {
    return (await this.db.select().from(auditHeads).where(eq(auditHeads.teamId, team)))[0];
  }

  /** A team's sealed entries after number `after`, in the order of the chain. */
  async chain(team: string, after: number): Promise<AuditRow[]> {
    return await this.db
      .select()
      .from(auditLogs)
      .where(and(eq(auditLogs.teamId, team), gt(auditLogs.seq, after)))
      .orderBy(asc(auditLogs.seq))
      .limit(sealBatch);
  }
}
