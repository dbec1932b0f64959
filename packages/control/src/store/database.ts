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
