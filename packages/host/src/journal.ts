import { Database } from "bun:sqlite";
import { chmodSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { LayerRecord, SandboxRecord, SnapshotRecord } from "./record.ts";

/** Layout of the journal; a higher one was written by a newer agent. */
const layout = 1;

/** Rows of one kind, as JSON under their id. */
export class Rows<T extends { readonly id: string }> {
  readonly #put;
  readonly #get;
  readonly #remove;
  readonly #all;

  constructor(db: Database, table: "sandboxes" | "snapshots" | "layers") {
    db.run(`create table if not exists ${table} (id text primary key, row text not null)`);
    this.#put = db.prepare(
      `insert into ${table} (id, row) values ($id, $row) on conflict (id) do update set row = $row`,
    );
    this.#get = db.prepare<{ row: string }, { id: string }>(`select row from ${table} where id = $id`);
    this.#remove = db.prepare(`delete from ${table} where id = $id`);
    this.#all = db.prepare<{ row: string }, []>(`select row from ${table} order by rowid`);
  }

  put(row: T): void {
    this.#put.run({ id: row.id, row: JSON.stringify(row) });
  }

  get(id: string): T | undefined {
    const found = this.#get.get({ id });
    return found ? (JSON.parse(found.row) as T) : undefined;
  }

  remove(id: string): void {
    this.#remove.run({ id });
  }

  /** Every row, oldest first. */
  all(): T[] {
    return this.#all.all().map(({ row }) => JSON.parse(row) as T);
  }
}

/**
 * What this host intends and has done, written before and after every effect. A killed agent's successor reads it and
 * looks at the world. Tokens stand in it, so only its owner may read the file.
 */
export class Journal implements Disposable {
  readonly #db: Database;
  readonly sandboxes: Rows<SandboxRecord>;
  readonly snapshots: Rows<SnapshotRecord>;
  readonly layers: Rows<LayerRecord>;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    this.#db = new Database(path, { create: true, strict: true });
    chmodSync(path, 0o600);
    // WAL with `normal` survives the death of the process at any instruction; a power cut may lose the last rows, and the
    // VMs with them.
    this.#db.run("pragma journal_mode = wal");
    this.#db.run("pragma synchronous = normal");
    const found = this.#db.query<{ user_version: number }, []>("pragma user_version").get()!.user_version;
    if (found > layout)
      throw new WrennError("invalid_request", `the journal ${path} was written by a newer version`, {
        remedy: "Start the version that wrote it, or name another data folder.",
      });
    this.sandboxes = new Rows(this.#db, "sandboxes");
    this.snapshots = new Rows(this.#db, "snapshots");
    this.layers = new Rows(this.#db, "layers");
    this.#db.run(`pragma user_version = ${layout}`);
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}
