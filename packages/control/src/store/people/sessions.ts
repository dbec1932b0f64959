import { prefixes, randomId, type rest } from "@wrenn/contract";
import { and, desc, eq, isNull, lte, ne, sql } from "drizzle-orm";
import { memberships, type SessionRow, sessions, teams, users } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** A session ends when it was not used for so long. */
const idleDays = 7;
/** A session ends then however often it is used. */
const longestDays = 30;

/** What a session opens: who, in which team, as what. */
export type OpenSession = {
  id: string;
  team: string;
  role: rest.Role;
  user: { id: string; email: string; name: string; isAdmin: boolean; status: string };
  impersonator: string | null;
};

/** Queries about who is signed in. */
export class SessionStore {
  constructor(readonly db: Queries) {}

  /** Signs somebody in. */
  async insert(
    row: Pick<SessionRow, "tokenHash" | "userId" | "teamId" | "ip" | "userAgent"> & {
      impersonatorId?: string;
      expiresAt?: Date;
    },
  ): Promise<string> {
    const id = prefixes.session + randomId();
    await this.db.delete(sessions).where(lte(sessions.expiresAt, sql`now()`));
    await this.db
      .insert(sessions)
      .values({ ...row, id, expiresAt: row.expiresAt ?? (sql`now() + ${idleDays} * interval '1 day'` as never) });
    return id;
  }

  /** What a token opens now: one indexed query. A member of the team no longer, or of a deleted team, is nobody. */
  async find(tokenHash: string): Promise<OpenSession | undefined> {
    const { id, email, name, isAdmin, status } = users;
    const [row] = await this.db
      .select({
        id: sessions.id,
        team: sessions.teamId,
        role: memberships.role,
        user: { id, email, name, isAdmin, status },
        impersonator: sessions.impersonatorId,
      })
      .from(sessions)
      .innerJoin(users, eq(id, sessions.userId))
      .innerJoin(memberships, and(eq(memberships.userId, id), eq(memberships.teamId, sessions.teamId)))
      .innerJoin(teams, and(eq(teams.id, sessions.teamId), isNull(teams.deletedAt)))
      .where(and(eq(sessions.tokenHash, tokenHash), sql`${sessions.expiresAt} > now()`));
    return row;
  }

  /** Where somebody is signed in, as last used. */
  async list(userId: string): Promise<SessionRow[]> {
    return await this.db
      .select()
      .from(sessions)
      .where(and(eq(sessions.userId, userId), isNull(sessions.impersonatorId), sql`${sessions.expiresAt} > now()`))
      .orderBy(desc(sessions.lastUsedAt), desc(sessions.id));
  }

  /** Ends a session of somebody; `false` when it is not theirs. */
  async end(userId: string, id: string): Promise<boolean> {
    const gone = await this.db
      .delete(sessions)
      .where(and(eq(sessions.userId, userId), eq(sessions.id, id)))
      .returning({ id: sessions.id });
    return gone.length === 1;
  }

  /** Ends every session of somebody, but one if it is named. */
  async endAll(userId: string, but = ""): Promise<void> {
    await this.db.delete(sessions).where(and(eq(sessions.userId, userId), ne(sessions.id, but)));
  }

  /** Ends every session in a team, of one member or of all. */
  async endInTeam(teamId: string, userId?: string): Promise<void> {
    await this.db
      .delete(sessions)
      .where(and(eq(sessions.teamId, teamId), userId === undefined ? undefined : eq(sessions.userId, userId)));
  }

  /** Records when sessions were last used, in one statement; each lives on by as much. */
  async used(times: ReadonlyMap<string, Date>): Promise<void> {
    const rows = [...times].map(([id, at]) => sql`(${id}, ${at.toISOString()}::timestamptz)`);
    await this.db.execute(sql`update sessions set last_used_at = greatest(last_used_at, used.at),
      expires_at = case when impersonator_id is null then greatest(expires_at,
        least(used.at + ${idleDays} * interval '1 day', created_at + ${longestDays} * interval '1 day'))
        else expires_at end
      from (values ${sql.join(rows, sql`, `)}) as used (id, at) where sessions.id = used.id`);
  }
}
