import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";
import { WrennError } from "@wrenn/contract";
import type { SQL, TransactionSQL } from "bun";
import { migrate, migrationsOf } from "../store/migrate.ts";
import { type Header, tablesOf } from "./backup.ts";

/** Rows written at once. */
const batch = 500;

/**
 * Fills an empty database from a backup, all of it or nothing. Throws `conflict` when the database is in use or the
 * backup has migrations that this program does not know, `invalid_request` for a file that is no backup.
 */
export async function restore(client: SQL, file: string): Promise<{ rows: number; tables: number }> {
  await migrate(client);
  const [{ count }] = await client`select count(*)::int as count from sandboxes`;
  const [{ users }] = await client`select count(*)::int as users from users`;
  if (count + users > 0)
    throw new WrennError("conflict", "The database is in use.", {
      remedy: "Restore into an empty database, then point DATABASE_URL to it.",
    });
  const known = await tablesOf(client);
  const present = await migrationsOf(client);
  return await client.begin(async (sql) => {
    let rows = 0;
    let tables = 0;
    let waiting: { table: string; rows: string[] } | undefined;
    const flush = async () => {
      if (waiting) await write(sql, waiting.table, waiting.rows);
      waiting = undefined;
    };
    for await (const line of linesOf(file)) {
      if (tables === 0) {
        tables = check(line, known, present);
        await begin(sql, known);
        continue;
      }
      const comma = line.indexOf(",");
      const table = JSON.parse(line.slice(1, comma)) as string;
      if (waiting && (waiting.table !== table || waiting.rows.length >= batch)) await flush();
      waiting ??= { table, rows: [] };
      waiting.rows.push(line.slice(comma + 1, -1));
      rows++;
    }
    if (tables === 0) throw notBackup("it is empty");
    await flush();
    await end(sql, known);
    return { rows, tables };
  });
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const source = createReadStream(file);
  const plain = source.pipe(createGunzip());
  source.on("error", (thrown) => plain.destroy(thrown));
  try {
    for await (const line of createInterface({ input: plain, crlfDelay: Number.POSITIVE_INFINITY })) yield line;
    if (!plain.readableEnded && plain.errored) throw plain.errored;
  } catch (thrown) {
    throw notBackup((thrown as Error).message);
  }
}

/** Whether the file fits this program; answers how many tables it has. */
function check(line: string, known: readonly string[], present: readonly string[]): number {
  let header: Header;
  try {
    header = JSON.parse(line) as Header;
  } catch {
    throw notBackup("its first line is not a header");
  }
  if (header.format !== 1) throw notBackup("it has another format");
  const strange =
    header.migrations.find((name) => !present.includes(name)) ?? header.tables.find((name) => !known.includes(name));
  if (strange)
    throw new WrennError("conflict", `The backup has ${strange}, which this program does not know.`, {
      remedy: `Restore it with wrenn-cp ${header.version} or later.`,
    });
  return header.tables.length;
}

/** Rows come in the order of tables' names, so what they refer to may come later; and nothing shall be told again. */
async function begin(sql: TransactionSQL, tables: readonly string[]): Promise<void> {
  await sql`set local session_replication_role = replica`;
  for (const table of tables) await sql`delete from ${sql(table)}`;
}

async function write(sql: TransactionSQL, table: string, rows: readonly string[]): Promise<void> {
  const name = sql(table);
  await sql`insert into ${name} overriding system value
    select * from jsonb_populate_recordset(null::${name}, ${`[${rows.join(",")}]`}::text::jsonb)`;
}

/** What depends on the server that the rows came from. */
async function end(sql: TransactionSQL, tables: readonly string[]): Promise<void> {
  // Transactions are numbered anew here: what was committed there is older than all that comes.
  await sql`update events set xact = '3'::xid8`;
  for (const table of tables) {
    const [row] = await sql`select pg_get_serial_sequence(${table}, a.attname) as sequence, a.attname as column
      from pg_attribute a where a.attrelid = ${table}::regclass and a.attidentity <> ''`;
    if (row?.sequence)
      await sql`select setval(${row.sequence}, greatest(1, (select coalesce(max(${sql(row.column)}), 0) + 1 from ${sql(table)})), false)`;
  }
}

const notBackup = (why: string) =>
  new WrennError("invalid_request", `The file is no backup of wrenn-cp: ${why}.`, {
    remedy: "Name a file that `wrenn-cp backup FILE` wrote.",
  });
