import { WrennError } from "@wrenn/contract";
import { SQL } from "bun";
import { drizzle } from "drizzle-orm/bun-sql";
import { migrate } from "./migrate.ts";

/** Enough to keep PostgreSQL busy from one process, few enough for many replicas beside its default of 100. */
const poolSize = 10;

const open = (client: SQL) => drizzle({ client });
/** Drizzle over this process's pool. */
export type Database = ReturnType<typeof open>;

/** Connects, brings the schema up to date and answers the database, its bare client and its closing function. */
export async function openDatabase(url: string): Promise<{ db: Database; client: SQL; close(): Promise<void> }> {
  const client = new SQL(url, { max: poolSize, idleTimeout: 0, connectionTimeout: 10 });
  try {
    await migrate(client);
  } catch (thrown) {
    await client.close();
    throw thrown instanceof WrennError ? thrown : unusable(thrown);
  }
  return { db: open(client), client, close: () => client.close({ timeout: 5 }) };
}

const unusable = (cause: unknown) =>
  new WrennError(
    "internal_error",
    `The database cannot be used: ${cause instanceof Error ? cause.message : "unknown cause"}.`,
    {
      remedy: "Check DATABASE_URL, and that PostgreSQL runs and lets this user in.",
      cause,
    },
  );

/** SQLSTATE classes of a server that is going, coming or out of reach (PostgreSQL documentation, appendix A). */
const awayStates = /^(08|57P0[1-3]|53300)/;

/** SQLSTATEs of a transaction that PostgreSQL gave up for others' sake, or did not get to: all of it is undone. */
const givenUpStates: readonly string[] = ["40001", "40P01", "55P03", "57014"];

/** What Bun says when it lost, or never got, a connection. */
const awayCodes = /^ERR_POSTGRES_(CONNECTION|IDLE_TIMEOUT|LIFETIME)/;

/** SQLSTATEs of text that PostgreSQL cannot store: it has no NUL (PostgreSQL documentation, appendix A). */
const unstorable: readonly string[] = ["22021", "22P05"];

const unstorableText = (cause: unknown) =>
  new WrennError("invalid_request", "The request has a NUL character in a text.", { remedy: "Leave it out.", cause });

/** SQLSTATE of a statement that would pass a quota (migration 0012); its message is the name of the limit. */
const quotaState = "WRQ01";
/** Sandboxes come and go; asking again sooner than this makes no sense. */
const quotaRetrySec = 10;

const overQuota = (limit: string, cause: unknown) =>
  new WrennError("quota_exceeded", `The team's quota of ${limit} is used up.`, {
    remedy:
      "Delete or pause sandboxes, or ask an administrator for a higher quota; GET /v1/teams/ID/quotas tells both.",
    details: { limit, retry_after_sec: `${quotaRetrySec}` },
    cause,
  });

/** The error for a caller: a database that is away is `unavailable`, as it will be back; else as `WrennError.from`. */
export function asWrennError(thrown: unknown): WrennError {
  for (let at = thrown; at instanceof Error; at = at.cause) {
    if (at instanceof WrennError) break;
    if (!(at instanceof SQL.PostgresError)) continue;
    if (unstorable.includes(String(at.errno))) return unstorableText(thrown);
    if (String(at.errno) === quotaState) return overQuota(at.message, thrown);
    if (givenUpStates.includes(String(at.errno)))
      return new WrennError("unavailable", "The database gave the change up for others that were under way.", {
        remedy: "Try again; nothing of it was done.",
        cause: thrown,
      });
    if (!awayCodes.test(at.code) && !awayStates.test(String(at.errno))) break;
    return new WrennError("unavailable", "The database does not answer.", {
      remedy: "Try again in a moment; it may be starting.",
      cause: thrown,
    });
  }
  return WrennError.from(thrown);
}
