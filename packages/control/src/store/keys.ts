import { prefixes, randomId } from "@wrenn/contract";
import { eq, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { apiKeys, teams } from "./schema/index.ts";

/** The team of a new installation. */
const localTeam = { id: `${prefixes.team}${"0".repeat(25)}`, name: "Local" };
/** Characters of a key that may be shown again, so that people can tell keys apart. */
const shownLength = 10;

/** A key as clients of the E2B dialect have to write it: their SDK refuses every other prefix. */
const e2bForm = /^e2b_(?=[0-9a-f]{32}$)/;

/** SHA-256 of a key, hex: what is stored instead of the key. `e2b_` and `wrn_` before the same 32 hex digits are one key. */
export const hashKey = (key: string): string =>
  new Bun.CryptoHasher("sha256").update(key.replace(e2bForm, "wrn_")).digest("hex");

/** Queries about teams and API keys. */
export class KeyStore {
  readonly #byHash;
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
    this.#byHash = db
      .select({ id: apiKeys.id, team: apiKeys.teamId, name: apiKeys.name })
      .from(apiKeys)
      .where(eq(apiKeys.keyHash, sql.placeholder("hash")))
      .prepare("key_by_hash");
  }

  /** The key with this hash. */
  async find(hash: string): Promise<{ id: string; team: string; name: string } | undefined> {
    return (await this.#byHash.execute({ hash }))[0];
  }

  /** Makes the local team exist, and `key` open it. */
  async bootstrap(key: string | undefined): Promise<void> {
    await this.#db.insert(teams).values(localTeam).onConflictDoNothing();
    if (!key) return;
    const row = { id: prefixes.apiKey + randomId(), teamId: localTeam.id, name: "bootstrap" };
    await this.#db
      .insert(apiKeys)
      .values({ ...row, keyHash: hashKey(key), keyPrefix: key.slice(0, shownLength) })
      .onConflictDoNothing();
  }

  /** Records when keys were last used, in one statement. */
  async used(times: ReadonlyMap<string, Date>): Promise<void> {
    const rows = [...times].map(([id, at]) => sql`(${id}, ${at.toISOString()}::timestamptz)`);
    await this.#db.execute(sql`update api_keys set last_used_at = greatest(last_used_at, used.at)
      from (values ${sql.join(rows, sql`, `)}) as used (id, at) where api_keys.id = used.id`);
  }
}
