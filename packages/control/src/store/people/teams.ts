import { prefixes, randomId, type rest } from "@wrenn/contract";
import { and, asc, desc, eq, isNull, ne, sql } from "drizzle-orm";
import { invitations, memberships, teams, type UserRow, users } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** A team's row. */
export type TeamRow = typeof teams.$inferSelect;
/** A team with what one of its members is. */
export type OwnTeam = TeamRow & { role: rest.Role; isDefault: boolean };
/** A member: the account, and since when it is what. */
export type MemberRow = Pick<UserRow, "id" | "name" | "email"> & { role: rest.Role; joinedAt: Date };
/** An invitation's row. */
export type InvitationRow = typeof invitations.$inferSelect;

/** Queries about teams and who is in them. */
export class TeamStore {
  constructor(readonly db: Queries) {}

  /** Makes a team that `owner` owns. */
  async create(name: string, owner: string, isDefault: boolean): Promise<OwnTeam> {
    const [team] = await this.db
      .insert(teams)
      .values({ id: prefixes.team + randomId(), name })
      .returning();
    await this.join({ userId: owner, teamId: team!.id, role: "owner", isDefault });
    return { ...team!, role: "owner", isDefault };
  }

  /** Makes somebody a member; `false` when they are one. */
  async join(member: { userId: string; teamId: string; role: rest.Role; isDefault?: boolean }): Promise<boolean> {
    const made = await this.db
      .insert(memberships)
      .values(member)
      .onConflictDoNothing()
      .returning({ userId: memberships.userId });
    return made.length === 1;
  }

  /** A team that is not deleted. */
  async find(id: string): Promise<TeamRow | undefined> {
    const [row] = await this.db
      .select()
      .from(teams)
      .where(and(eq(teams.id, id), isNull(teams.deletedAt)));
    return row;
  }

  /** The teams somebody is in, the default first, then as they were joined. */
  async of(userId: string): Promise<OwnTeam[]> {
    const rows = await this.db
      .select({ team: teams, role: memberships.role, isDefault: memberships.isDefault })
      .from(memberships)
      .innerJoin(teams, eq(teams.id, memberships.teamId))
      .where(and(eq(memberships.userId, userId), isNull(teams.deletedAt)))
      .orderBy(desc(memberships.isDefault), asc(memberships.createdAt), asc(teams.id));
    return rows.map(({ team, role, isDefault }) => ({ ...team, role, isDefault }));
  }

  /** What somebody is in a team; `undefined` when they are not in it. */
  async role(userId: string, teamId: string): Promise<rest.Role | undefined> {
    const [row] = await this.db
      .select({ role: memberships.role })
      .from(memberships)
      .where(and(eq(memberships.userId, userId), eq(memberships.teamId, teamId)))
      .for("update");
    return row?.role;
  }

  /** The members of a team whose accounts are open, the owner first, then as they joined. */
  async members(teamId: string): Promise<MemberRow[]> {
    const { id, name, email } = users;
    return await this.db
      .select({ id, name, email, role: memberships.role, joinedAt: memberships.createdAt })
      .from(memberships)
      .innerJoin(users, eq(users.id, memberships.userId))
      .where(and(eq(memberships.teamId, teamId), ne(users.status, "deleted")))
      .orderBy(sql`${memberships.role} <> 'owner'`, asc(memberships.createdAt), asc(id));
  }

  /** Changes what a member is. */
  async setRole(userId: string, teamId: string, role: rest.Role): Promise<void> {
    await this.db
      .update(memberships)
      .set({ role })
      .where(and(eq(memberships.userId, userId), eq(memberships.teamId, teamId)));
  }

  /** Ends a membership; `false` when there was none. */
  async leave(userId: string, teamId: string): Promise<boolean> {
    const gone = await this.db
      .delete(memberships)
      .where(and(eq(memberships.userId, userId), eq(memberships.teamId, teamId)))
      .returning({ role: memberships.role });
    return gone.length > 0;
  }

  /** Changes a team's name. */
  async rename(id: string, name: string): Promise<void> {
    await this.db.update(teams).set({ name }).where(eq(teams.id, id));
  }

  /** Marks a team as deleted: nobody gets in from now on. `false` when it was. */
  async markDeleted(id: string): Promise<boolean> {
    const rows = await this.db
      .update(teams)
      .set({ deletedAt: sql`now()` })
      .where(and(eq(teams.id, id), isNull(teams.deletedAt)))
      .returning({ id: teams.id });
    return rows.length === 1;
  }

  /** Keeps an invitation; another one for the same address is replaced. */
  async invite(row: typeof invitations.$inferInsert): Promise<InvitationRow> {
    const { tokenHash, role, invitedBy, expiresAt } = row;
    const [made] = await this.db
      .insert(invitations)
      .values(row)
      .onConflictDoUpdate({
        target: [invitations.teamId, invitations.email],
        set: { tokenHash, role, invitedBy, expiresAt, createdAt: sql`now()` },
      })
      .returning();
    return made!;
  }

  /** The invitations of a team that may still be accepted, newest first. */
  async invitations(teamId: string): Promise<InvitationRow[]> {
    return await this.db
      .select()
      .from(invitations)
      .where(and(eq(invitations.teamId, teamId), sql`${invitations.expiresAt} > now()`))
      .orderBy(desc(invitations.createdAt), desc(invitations.id));
  }

  /** Takes back an invitation. */
  async revokeInvitation(teamId: string, id: string): Promise<boolean> {
    const gone = await this.db
      .delete(invitations)
      .where(and(eq(invitations.teamId, teamId), eq(invitations.id, id)))
      .returning({ id: invitations.id });
    return gone.length === 1;
  }

  /** Uses up an invitation; `undefined` when the token opens none. */
  async takeInvitation(tokenHash: string): Promise<InvitationRow | undefined> {
    const [row] = await this.db
      .delete(invitations)
      .where(and(eq(invitations.tokenHash, tokenHash), sql`${invitations.expiresAt} > now()`))
      .returning();
    return row;
  }
}
