import { WrennError } from "@wrenn/contract";
import { SQL } from "bun";
import { migrate, migrationsOf, undo } from "../store/migrate.ts";
import { backup } from "./backup.ts";
import { restore } from "./restore.ts";

/** Carries out a command of an operator, such as `["backup", "FILE"]`, and tells what it did on standard output. */
export async function operate(args: readonly string[], databaseUrl: string | undefined): Promise<void> {
  const [command, ...rest] = args;
  const act = command === undefined ? undefined : commands[command];
  if (!act) throw bad(`Unknown argument ${command}.`);
  if (!databaseUrl)
    throw new WrennError("invalid_request", "DATABASE_URL is not set.", {
      remedy: "Set it to postgres://USER:PASSWORD@HOST/NAME.",
    });
  const client = new SQL(databaseUrl, { max: 2, connectionTimeout: 10 });
  try {
    process.stdout.write(`${await act(client, rest)}\n`);
  } finally {
    await client.close();
  }
}

const commands: Readonly<Record<string, (client: SQL, args: string[]) => Promise<string>>> = {
  async migrate(client, args) {
    if (args.length === 0) {
      await migrate(client);
      return `The database is up to date: ${(await migrationsOf(client)).at(-1)}.`;
    }
    const to = args.length === 2 && args[0] === "--to" && /^\d{1,4}$/.test(args[1]!) ? Number(args[1]) : undefined;
    if (to === undefined) throw bad(`Unknown arguments ${args.join(" ")}.`);
    const undone = await undo(client, to);
    return undone.length === 0 ? "There is nothing to undo." : `Undone: ${undone.join(", ")}.`;
  },
  async backup(client, [file, ...more]) {
    if (!file || more.length > 0) throw bad("backup takes one file.");
    const { rows, tables } = await backup(client, file);
    return `Wrote ${rows} rows of ${tables} tables to ${file}.`;
  },
  async restore(client, [file, ...more]) {
    if (!file || more.length > 0) throw bad("restore takes one file.");
    const { rows, tables } = await restore(client, file);
    return `Restored ${rows} rows of ${tables} tables from ${file}.`;
  },
};

const bad = (message: string) => new WrennError("invalid_request", message, { remedy: "See wrenn-cp --help." });
