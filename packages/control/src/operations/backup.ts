import { createWriteStream } from "node:fs";
import { rename } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { version } from "@wrenn/contract";
import type { SQL } from "bun";
import { migrationsOf } from "../store/migrate.ts";

/** The first line of a backup. */
export type Header = { format: 1; version: string; at: string; migrations: string[]; tables: string[] };

/** Rows read at once: as much as a hundred or two take in memory, whatever the table. */
const batch = 500;

/** The migrations' own table says what the file was made with; it is written by migrating, not by restoring. */
const skipped = "wrenn_migrations";

/** Tables with the rows, in an order in which none refers to a later one only if triggers are off: restore sees to that. */
export async function tablesOf(client: SQL): Promise<string[]> {
  const rows: { name: string }[] = await client`select tablename as name from pg_tables
    where schemaname = current_schema() and tablename <> ${skipped} order by 1`;
  return rows.map(({ name }) => name);
}

/**
 * Writes every row to a file, as of one moment, while the database is in use: gzip of lines, first a {@link Header}, then
 * `["table", {row}]`. The file appears when it is whole.
 */
export async function backup(client: SQL, file: string): Promise<{ rows: number; tables: number }> {
  const migrations = await migrationsOf(client);
  const tables = await tablesOf(client);
  let rows = 0;
  const partial = `${file}.part`;
  await client.begin("isolation level repeatable read read only", async (sql) => {
    async function* lines(): AsyncGenerator<string> {
      const header: Header = { format: 1, version, at: new Date().toISOString(), migrations, tables };
      yield `${JSON.stringify(header)}\n`;
      for (const table of tables) {
        const name = sql(table);
        await sql`declare backup no scroll cursor for select to_jsonb(t)::text as row from ${name} as t`;
        for (;;) {
          const found: { row: string }[] = await sql.unsafe(`fetch ${batch} from backup`);
          for (const { row } of found) yield `[${JSON.stringify(table)},${row}]\n`;
          rows += found.length;
          if (found.length < batch) break;
        }
        await sql`close backup`;
      }
    }
    // Secrets that are hashed or encrypted are in it, and all that teams say about their sandboxes.
    await pipeline(Readable.from(lines()), createGzip(), createWriteStream(partial, { mode: 0o600 }));
  });
  await rename(partial, file);
  return { rows, tables: tables.length };
}
