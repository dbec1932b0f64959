import { prefixes, randomId } from "@wrenn/contract";
import { and, asc, desc, eq, inArray, lt, ne, sql } from "drizzle-orm";
import { identities, memberships, recoveryCodes, type UserRow, users } from "../schema/index.ts";
import type { Queries } from "./queries.ts";

/** What a new account holds. */
export type NewUser = Pick<UserRow, "email" | "name" | "status"> & { passwordHash?: string | undefined };
/** An account elsewhere that opens one here. */
export type Identity = { provider: string; subject: string; email: string };

const living = ne(users.status, "deleted");

/** Queries about accounts. */
export class UserStore {
  constructor(readonly db: Queries) {}

  /** The account with this id that is not deleted. */
  async find(id: string): Promise<UserRow | undefined> {
    const [row] = await this.db
      .select()
      .from(users)
      .where(and(eq(users.id, id), living));
    return row;
  }

  /** The living account of an address in lower case. */
  async byEmail(email: string): Promise<UserRow | undefined> {
    const [row] = await this.db
      .select()
      .from(users)
      .where(and(eq(users.email, email), living));
    return row;
  }

  /** Makes an account; `undefined` when the address has one. */
  async insert(user: NewUser): Promise<UserRow | undefined> {
    const [row] = await this.db
      .insert(users)
      .values({ ...user, id: prefixes.user + randomId() })
      .onConflictDoNothing()
      .returning();
    return row;
  }

  /** Changes an account. */
  async update(id: string, change: Partial<Omit<UserRow, "id">>): Promise<void> {
    await this.db
      .update(users)
      .set({ ...change, updatedAt: sql`now()` as never })
      .where(eq(users.id, id));
  }

  /** Erases an account that was never used. */
  async erase(id: string): Promise<void> {
    await this.db.delete(users).where(eq(users.id, id));
  }

  /** Whether anybody has an account. */
  async hasAny(): Promise<boolean> {
    const [row] = await this.db
      .select({ id: users.id })
      .from(users)
      .where(inArray(users.status, ["active", "disabled"]))
      .limit(1);
    return row !== undefined;
  }

  /** Whether an account beside this one administers the installation. */
  async hasOtherAdmin(id: string): Promise<boolean> {
    const [row] = await this.db
      .select({ id: users.id })
      .from(users)
      .where(and(eq(users.status, "active"), eq(users.isAdmin, true), ne(users.id, id)))
      .limit(1);
    return row !== undefined;
  }

  /** Whether somebody else administers the installation, or nobody else is there to be administered. */
  async isDispensable(user: UserRow): Promise<boolean> {
    if (!user.isAdmin) return true;
    const others = await this.db
      .select({ isAdmin: users.isAdmin })
      .from(users)
      .where(and(eq(users.status, "active"), ne(users.id, user.id)));
    return others.length === 0 || others.some(({ isAdmin }) => isAdmin);
  }

  /** Serializes what must see every account: who is the first. Holds until the transaction ends. */
  async lockAll(): Promise<void> {
    await this.db.execute(sql`select pg_advisory_xact_lock(hashtext('wrenn_first_account'))`);
  }

  /** Names of the providers that open an account. */
  async providers(userId: string): Promise<string[]> {
    const rows = await this.db
      .select({ provider: identities.provider })
      .from(identities)
      .where(eq(identities.userId, userId))
      .orderBy(asc(identities.createdAt));
    return [...new Set(rows.map(({ provider }) => provider))];
  }

  /** The account that an account elsewhere opens. */
  async byIdentity({ provider, subject }: Pick<Identity, "provider" | "subject">): Promise<UserRow | undefined> {
    const [row] = await this.db
      .select({ user: users })
      .from(identities)
      .innerJoin(users, eq(users.id, identities.userId))
      .where(and(eq(identities.provider, provider), eq(identities.subject, subject), living));
    return row?.user;
  }

  /** Lets an account elsewhere open this one; `false` when it opens another. */
  async link(userId: string, identity: Identity): Promise<boolean> {
    const made = await this.db
      .insert(identities)
      .values({ ...identity, userId })
      .onConflictDoNothing()
      .returning({ userId: identities.userId });
    return made.length === 1 || (await this.byIdentity(identity))?.id === userId;
  }

  /** Ends what a provider opens; `false` when it opened nothing. */
  async unlink(userId: string, provider: string): Promise<boolean> {
    const gone = await this.db
      .delete(identities)
      .where(and(eq(identities.userId, userId), eq(identities.provider, provider)))
      .returning({ provider: identities.provider });
    return gone.length > 0;
  }

  /** Uses up a time step of the authenticator; `false` when it, or a later one, was used. */
  async useStep(userId: string, step: number): Promise<boolean> {
    const rows = await this.db
      .update(users)
      .set({ totpStep: step })
      .where(and(eq(users.id, userId), lt(users.totpStep, step)))
      .returning({ id: users.id });
    return rows.length === 1;
  }

  /** Puts other recovery codes, hashed, in the place of those there are. */
  async replaceRecoveryCodes(userId: string, hashes: readonly string[]): Promise<void> {
    await this.db.delete(recoveryCodes).where(eq(recoveryCodes.userId, userId));
    if (hashes.length === 0) return;
    await this.db.insert(recoveryCodes).values(hashes.map((codeHash) => ({ userId, codeHash })));
  }

  /** Uses up a recovery code; `false` when it is none. */
  async takeRecoveryCode(userId: string, codeHash: string): Promise<boolean> {
    const gone = await this.db
      .delete(recoveryCodes)
      .where(and(eq(recoveryCodes.userId, userId), eq(recoveryCodes.codeHash, codeHash)))
      .returning({ userId: recoveryCodes.userId });
    return gone.length === 1;
  }

  /** People who share a team with `userId` and whose address begins with `prefix`; at most `limit`. */
  async acquaintances(userId: string, prefix: string, limit: number): Promise<UserRow[]> {
    const own = this.db.select({ teamId: memberships.teamId }).from(memberships).where(eq(memberships.userId, userId));
    const rows = await this.db
      .selectDistinct({ user: users })
      .from(users)
      .innerJoin(memberships, eq(memberships.userId, users.id))
      .where(
        and(inArray(memberships.teamId, own), eq(users.status, "active"), sql`starts_with(${users.email}, ${prefix})`),
      )
      .orderBy(desc(users.email))
      .limit(limit);
    return rows.map(({ user }) => user);
  }
}
