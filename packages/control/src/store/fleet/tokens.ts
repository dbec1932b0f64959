import { createHash, randomBytes } from "node:crypto";
import { and, eq, gt, lt, ne, sql } from "drizzle-orm";
import type { Database } from "../database.ts";
import { type HostRow, hosts, hostTokens } from "../schema/index.ts";

/** A registration is done within the hour; an agent renews its access every day and may be off for two months. */
const lifeMs = { registration: 3_600_000, access: 7 * 86_400_000, refresh: 60 * 86_400_000 } as const;
type Kind = keyof typeof lifeMs;

/** What an agent keeps: `access` opens its routes, `refresh` gets the next pair. */
export type TokenPair = { access: string; refresh: string };
/** What a registering machine brings. */
export type Registration = Pick<
  HostRow,
  "address" | "arch" | "cpuCores" | "memoryMib" | "diskMib" | "capacityMib" | "certFingerprint" | "certExpiresAt"
>;

const hashOf = (token: string): string => createHash("sha256").update(token).digest("hex");

/** Secrets of hosts. Each is handed out once and kept as its SHA-256. */
export class HostTokenStore {
  constructor(readonly db: Database) {}

  /** A registration token for a host; those it had before open nothing any more. */
  async registration(hostId: string): Promise<string> {
    const token = randomBytes(32).toString("hex");
    await this.db.transaction(async (transaction) => {
      await transaction
        .delete(hostTokens)
        .where(and(eq(hostTokens.hostId, hostId), eq(hostTokens.kind, "registration")));
      await transaction.insert(hostTokens).values(rowOf(hostId, "registration", token));
    });
    return token;
  }

  /** Which pending host a registration token is for; looking does not use it up. */
  async pending(token: string): Promise<string | undefined> {
    return await this.#host(token, "registration");
  }

  /** Uses a registration token up and gives the host its machine; `undefined` when somebody was faster. */
  async register(token: string, machine: Registration): Promise<{ hostId: string; pair: TokenPair } | undefined> {
    return await this.db.transaction(async (transaction) => {
      const [used] = await transaction
        .delete(hostTokens)
        .where(and(eq(hostTokens.hash, hashOf(token)), eq(hostTokens.kind, "registration"), isFresh))
        .returning({ hostId: hostTokens.hostId });
      if (!used) return undefined;
      await transaction
        .update(hosts)
        .set({ ...machine, status: "unreachable", lastHeartbeatAt: sql`now()`, updatedAt: sql`now()` })
        .where(eq(hosts.id, used.hostId));
      const pair = newPair();
      await transaction.insert(hostTokens).values(rowsOf(used.hostId, pair));
      return { hostId: used.hostId, pair };
    });
  }

  /** Which host a refresh token is of. */
  async refreshing(token: string): Promise<string | undefined> {
    return await this.#host(token, "refresh");
  }

  /**
   * A new pair for the old refresh token, which opens nothing any more. The access token before stays good until its
   * time, so that a request under way is not refused. `undefined` when the token was used meanwhile.
   */
  async refresh(
    token: string,
    certificate: Pick<HostRow, "certFingerprint" | "certExpiresAt">,
  ): Promise<TokenPair | undefined> {
    return await this.db.transaction(async (transaction) => {
      const [used] = await transaction
        .delete(hostTokens)
        .where(and(eq(hostTokens.hash, hashOf(token)), eq(hostTokens.kind, "refresh"), isFresh))
        .returning({ hostId: hostTokens.hostId });
      if (!used) return undefined;
      await transaction
        .update(hosts)
        .set({ ...certificate, certPrevious: sql`${hosts.certFingerprint}` })
        .where(eq(hosts.id, used.hostId));
      const pair = newPair();
      await transaction.insert(hostTokens).values(rowsOf(used.hostId, pair));
      await transaction.delete(hostTokens).where(lt(hostTokens.expiresAt, sql`now()`));
      return pair;
    });
  }

  /** Records a heartbeat. Answers whose it is, and whether that host was deleted; `undefined` for an unknown token. */
  async heartbeat(token: string): Promise<string | undefined> {
    const hostId = await this.#host(token, "access");
    if (hostId) await this.db.update(hosts).set({ lastHeartbeatAt: sql`now()` }).where(eq(hosts.id, hostId));
    return hostId;
  }

  /** Makes every token of a host useless. */
  async revoke(hostId: string): Promise<void> {
    await this.db.delete(hostTokens).where(and(eq(hostTokens.hostId, hostId), ne(hostTokens.kind, "registration")));
  }

  async #host(token: string, kind: Kind): Promise<string | undefined> {
    const [row] = await this.db
      .select({ hostId: hostTokens.hostId })
      .from(hostTokens)
      .where(and(eq(hostTokens.hash, hashOf(token)), eq(hostTokens.kind, kind), isFresh));
    return row?.hostId;
  }
}

const isFresh = gt(hostTokens.expiresAt, sql`now()`);
const newPair = (): TokenPair => ({
  access: `wha_${randomBytes(32).toString("hex")}`,
  refresh: `whr_${randomBytes(32).toString("hex")}`,
});
const rowOf = (hostId: string, kind: Kind, token: string) => ({
  hash: hashOf(token),
  hostId,
  kind,
  expiresAt: new Date(Date.now() + lifeMs[kind]),
});
const rowsOf = (hostId: string, { access, refresh }: TokenPair) => [
  rowOf(hostId, "access", access),
  rowOf(hostId, "refresh", refresh),
];
