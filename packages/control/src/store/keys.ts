import { prefixes, randomId } from "@wrenn/contract";
import { and, desc, eq, isNull, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { apiKeys, signInLinks, teams, users } from "./schema/index.ts";

/** The team of a new installation, which its first account takes over; what is everybody's belongs to it too. */
export const localTeam = { id: `${prefixes.team}${"0".repeat(25)}`, name: "Local" };
/** Characters of a key that may be shown again, so that people can tell keys apart. */
const shownLength = 10;

/** A key as clients of the E2B dialect have to write it: their SDK refuses every other prefix. */
const e2bForm = /^e2b_(?=[0-9a-f]{32}$)/;

/** SHA-256 of a key, hex: what is stored instead of the key. `e2b_` and `wrn_` before the same 32 hex digits are one key. */
export const hashKey = (key: string): string =>
  new Bun.CryptoHasher("sha256").update(key.replace(e2bForm, "wrn_")).digest("hex");

/** What a key opens. */
export type OpenKey = { id: string; team: string; name: string; scopes: string | null; expiresAt: Date | null };
/** A key's row, with its maker's address. */
export type KeyRow = typeof apiKeys.$inferSelect & { creatorEmail: string | null };
/** What a new key holds. */
export type NewKey = Pick<KeyRow, "teamId" | "name" | "createdBy" | "scopes" | "expiresAt"> & { ofBrowser?: boolean };

/** Queries about teams and API keys. */
export class KeyStore {
  readonly #byHash;
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
    const { id, teamId: team, name, scopes, expiresAt } = apiKeys;
    this.#byHash = db
      .select({ id, team, name, scopes, expiresAt })
      .from(apiKeys)
      .innerJoin(teams, and(eq(teams.id, team), isNull(teams.deletedAt)))
      .where(and(eq(apiKeys.keyHash, sql.placeholder("hash")), isOpen))
      .prepare("key_by_hash");
  }

  /** What the key with this hash opens now. */
  async find(hash: string): Promise<OpenKey | undefined> {
    return (await this.#byHash.execute({ hash }))[0];
  }

  /** Makes the local team exist, and `key` open it; answers the id that the key has. */
  async bootstrap(key: string | undefined): Promise<string | undefined> {
    await this.#db.insert(teams).values(localTeam).onConflictDoNothing();
    if (!key) return undefined;
    const row = { id: prefixes.apiKey + randomId(), teamId: localTeam.id, name: "bootstrap" };
    await this.#db
      .insert(apiKeys)
      .values({ ...row, keyHash: hashKey(key), keyPrefix: key.slice(0, shownLength) })
      .onConflictDoNothing();
    const [kept] = await this.#db
      .select({ id: apiKeys.id })
      .from(apiKeys)
      .where(eq(apiKeys.keyHash, hashKey(key)));
    return kept!.id;
  }

  /** Keeps a new key. */
  async insert(key: string, row: NewKey): Promise<KeyRow> {
    const id = prefixes.apiKey + randomId();
    await this.#db.insert(apiKeys).values({ ...row, id, keyHash: hashKey(key), keyPrefix: key.slice(0, shownLength) });
    return (await this.list(row.teamId, { id }))[0]!;
  }

  /** A team's keys, newest first; those of one maker, or the one of an id. */
  async list(team: string, only: { id?: string; createdBy?: string | undefined } = {}): Promise<KeyRow[]> {
    const rows = await this.#db
      .select({ key: apiKeys, creatorEmail: users.email })
      .from(apiKeys)
      .leftJoin(users, eq(users.id, apiKeys.createdBy))
      .where(
        and(
          eq(apiKeys.teamId, team),
          only.id === undefined ? undefined : eq(apiKeys.id, only.id),
          only.createdBy === undefined ? undefined : eq(apiKeys.createdBy, only.createdBy),
        ),
      )
      .orderBy(desc(apiKeys.createdAt), desc(apiKeys.id));
    return rows.map(({ key, creatorEmail }) => ({ ...key, creatorEmail }));
  }

  /** Keeps a link that signs a browser in once, as this key's team. */
  async insertLink(tokenHash: string, keyId: string, lifeSec: number): Promise<void> {
    await this.#db.delete(signInLinks).where(sql`${signInLinks.expiresAt} <= now()`);
    await this.#db
      .insert(signInLinks)
      .values({ tokenHash, keyId, expiresAt: sql`now() + ${lifeSec} * interval '1 second'` as never });
  }

  /** Uses a link up; answers the key that made it, `undefined` when it opens nothing. */
  async takeLink(tokenHash: string): Promise<KeyRow | undefined> {
    const [link] = await this.#db
      .delete(signInLinks)
      .where(eq(signInLinks.tokenHash, tokenHash))
      .returning({ keyId: signInLinks.keyId, isOld: sql<boolean>`${signInLinks.expiresAt} <= now()` });
    if (!link || link.isOld) return undefined;
    const [row] = await this.#db
      .select()
      .from(apiKeys)
      .where(and(eq(apiKeys.id, link.keyId), isOpen));
    return row && { ...row, creatorEmail: null };
  }

  /** Gives a key another name. */
  async rename({ id }: Pick<KeyRow, "id">, name: string): Promise<void> {
    await this.#db.update(apiKeys).set({ name }).where(eq(apiKeys.id, id));
  }

  /** Ends one key of a team. */
  async remove(team: string, id: string): Promise<void> {
    await this.#db.delete(apiKeys).where(and(eq(apiKeys.teamId, team), eq(apiKeys.id, id)));
  }

  /** Ends the keys of a team, or of a maker, or both. Names neither: ends none. */
  async removeAll({ team, createdBy }: { team?: string | undefined; createdBy?: string | undefined }): Promise<void> {
    if (team === undefined && createdBy === undefined) return;
    await this.#db
      .delete(apiKeys)
      .where(
        and(
          team === undefined ? undefined : eq(apiKeys.teamId, team),
          createdBy === undefined ? undefined : eq(apiKeys.createdBy, createdBy),
        ),
      );
  }

  /** Records when keys were last used, in one statement. */
  async used(times: ReadonlyMap<string, Date>): Promise<void> {
    const rows = [...times].map(([id, at]) => sql`(${id}, ${at.toISOString()}::timestamptz)`);
    await this.#db.execute(sql`update api_keys set last_used_at = greatest(last_used_at, used.at)
      from (values ${sql.join(rows, sql`, `)}) as used (id, at) where api_keys.id = used.id`);
  }
}

const isOpen = sql`(${apiKeys.expiresAt} is null or ${apiKeys.expiresAt} > now())`;
