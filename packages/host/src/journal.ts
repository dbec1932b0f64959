import { Database } from "bun:sqlite";
import { chmodSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { SandboxRecord } from "./record.ts";

/** Layout of the journal; a higher one was written by a newer agent. */
const layout = 1;

/**
 * What this host intends and has done, one row a sandbox, written before and after every effect. A killed agent's
 * successor reads it and looks at the world. Tokens stand in it, so only its owner may read the file.
 */
export class Journal implements Disposable {
  readonly #db: Database;
  readonly #put;
  readonly #remove;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    this.#db = new Database(path, { create: true, strict: true });
    chmodSync(path, 0o600);
    // WAL with `normal` survives the death of the process at any instruction; a power cut may lose the last rows, and the
    // VMs with them.
    this.#db.run("pragma journal_mode = wal");
    this.#db.run("pragma synchronous = normal");
    this.#migrate(path);
    this.#put = this.#db.prepare(
      "insert into sandboxes (id, row) values ($id, $row) on conflict (id) do update set row = $row",
    );
    this.#remove = this.#db.prepare("delete from sandboxes where id = $id");
  }

  /** Writes the row of a sandbox. */
  put(record: SandboxRecord): void {
    this.#put.run({ id: record.id, row: JSON.stringify(record) });
  }

  /** Forgets a sandbox of which nothing is left. */
  remove(id: string): void {
    this.#remove.run({ id });
  }

  /** Every row, oldest first. */
  all(): SandboxRecord[] {
    const rows = this.#db.query<{ row: string }, []>("select row from sandboxes order by rowid").all();
    return rows.map(({ row }) => JSON.parse(row) as SandboxRecord);
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  #migrate(path: string): void {
    const found = this.#db.query<{ user_version: number }, []>("pragma user_version").get()!.user_version;
    if (found > layout)
      throw new WrennError("invalid_request", `the journal ${path} was written by a newer version`, {
        remedy: "Start the version that wrote it, or name another data folder.",
      });
    this.#db.run("create table if not exists sandboxes (id text primary key, row text not null)");
    this.#db.run(`pragma user_version = ${layout}`);
  }
}
