import { afterAll, describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { newSandboxId, type SandboxId } from "@wrenn/contract";
import { SQL } from "bun";
import { getTableColumns, getTableName } from "drizzle-orm";
import { start } from "../src/index.ts";
import { openDatabase } from "../src/store/database.ts";
import { KeyStore } from "../src/store/keys.ts";
import { SandboxStore } from "../src/store/sandboxes.ts";
import {
  apiKeys,
  hosts,
  idempotencyKeys,
  publicPorts,
  sandboxes,
  settings,
  snapshots,
  teams,
} from "../src/store/schema/index.ts";
import { apiKey } from "./support/plane.ts";
import { freshDatabase } from "./support/postgres.ts";

const opened: { close(): Promise<void> }[] = [];
afterAll(() => Promise.all(opened.map((database) => database.close())));

async function open(url?: string) {
  const database = await openDatabase(url ?? (await freshDatabase()));
  opened.push(database);
  return database.db;
}

async function withRow() {
  const db = await open();
  await new KeyStore(db).bootstrap(undefined);
  await db.insert(hosts).values({ id: "host-1", address: "http://x" });
  const [team] = await db.select().from(teams);
  const store = new SandboxStore(db);
  const row = await store.insert({
    id: newSandboxId() as SandboxId,
    teamId: team!.id,
    hostId: "host-1",
    template: "minimal",
    state: "running",
    run: 3,
    vcpus: 1,
    memoryMib: 512,
    diskMib: 1024,
    timeoutSec: 0,
    timeoutAction: "pause",
    metadata: { quote: `'";--`, ключ: "значение" },
  });
  return { db, store, row };
}

describe("migrations", () => {
  test("replicas that start together migrate once", async () => {
    const url = await freshDatabase();
    await Promise.all([open(url), open(url), open(url)]);
    await using sql = new SQL(url, { max: 1 });
    const files = (await readdir(`${import.meta.dir}/../migrations`)).filter((file) => file.endsWith(".sql"));
    const written = files.map((file) => file.replace(".sql", "")).sort();
    const applied = await sql`select version, name from wrenn_migrations order by version`;
    expect(applied.map((row: object) => ({ ...row }))).toEqual(
      written.map((name, index) => ({ version: index + 1, name })),
    );
  });

  test("a database of a newer program is refused with what to do, and stays as it is", async () => {
    const url = await freshDatabase();
    await open(url);
    await using sql = new SQL(url, { max: 1 });
    await sql`insert into wrenn_migrations (version, name) values (999, 'later')`;
    const thrown = await openDatabase(url).catch((error) => error);
    expect(thrown).toMatchObject({ code: "conflict", remedy: expect.stringContaining("newer wrenn-cp") });
    expect(thrown.message).toContain("later");
  });

  test("a database that is not there is named, without its password", async () => {
    const url = (await freshDatabase()).replace("/test_", "/absent_").replace("wrenn@", "wrenn:hunter2@");
    const thrown = await openDatabase(url).catch((error) => error);
    expect(thrown).toMatchObject({ remedy: expect.stringContaining("DATABASE_URL") });
    expect(JSON.stringify(thrown)).not.toContain("hunter2");
  });

  test("make the columns that the code knows", async () => {
    const db = await open();
    for (const table of [teams, apiKeys, hosts, sandboxes, snapshots, settings, publicPorts, idempotencyKeys]) {
      const found = await db.execute(
        `select column_name as name, is_nullable = 'NO' as "notNull" from information_schema.columns
          where table_name = '${getTableName(table)}'`,
      );
      const want = Object.values(getTableColumns(table)).map(({ name, notNull }) => ({ name, notNull }));
      const sorted = (list: { name: string }[]) => list.toSorted((a, b) => a.name.localeCompare(b.name));
      const rows = [...found].map((row) => ({ ...(row as { name: string; notNull: boolean }) }));
      expect(sorted(rows)).toEqual(sorted(want));
    }
  });
});

describe("sandbox rows", () => {
  test("text maps come back as they were, and the database sees objects", async () => {
    const { db, store, row } = await withRow();
    expect((await store.find(row.id))!.metadata).toEqual({ quote: `'";--`, ключ: "значение" });
    const [kind] = await db.execute("select jsonb_typeof(metadata) as kind from sandboxes");
    expect(kind).toMatchObject({ kind: "object" });
  });

  test("of many writers that saw the same row one wins", async () => {
    const { store, row } = await withRow();
    const tries = await Promise.all(Array.from({ length: 10 }, () => store.advance(row, "pause")));
    expect(tries.filter(Boolean).map((won) => won!.state)).toEqual(["pausing"]);
  });

  test("a writer that saw an earlier incarnation, or an arrow that is not there, changes nothing", async () => {
    const { store, row } = await withRow();
    expect(await store.advance({ ...row, run: 2 }, "stop")).toBeUndefined();
    expect(await store.advance(row, "resume")).toBeUndefined();
    expect(await store.find(row.id)).toEqual(row);
  });
});

describe("keys", () => {
  test("only a hash is stored, and use is written down in one statement", async () => {
    const db = await open();
    const store = new KeyStore(db);
    await store.bootstrap(apiKey);
    await store.bootstrap(apiKey);
    const [key, ...more] = await db.select().from(apiKeys);
    expect(more).toEqual([]);
    expect(JSON.stringify(key)).not.toContain(apiKey);
    expect(key).toMatchObject({ keyPrefix: apiKey.slice(0, 10), lastUsedAt: null });
    const at = new Date("2026-01-02T03:04:05.678Z");
    await store.used(new Map([[key!.id, at]]));
    await store.used(new Map([[key!.id, new Date(0)]]));
    expect((await db.select().from(apiKeys))[0]!.lastUsedAt).toEqual(at);
  });

  test("a stop writes down what was used since the last minute", async () => {
    const databaseUrl = await freshDatabase();
    const plane = await start({
      databaseUrl,
      listen: "127.0.0.1:0",
      fleet: { localAddress: "http://127.0.0.1:1", localToken: "t" },
      bootstrapApiKey: apiKey,
      logLevel: "silent",
    });
    await fetch(`${plane.address}/v1/capsules`, { headers: { "x-api-key": apiKey } });
    await plane.stop();
    const [key] = await (await open(databaseUrl)).select().from(apiKeys);
    expect(key!.lastUsedAt).toBeInstanceOf(Date);
  });
});
