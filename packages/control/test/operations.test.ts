import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SQL } from "bun";
import { environment } from "../src/config-file.ts";
import { start } from "../src/index.ts";
import { backup, tablesOf } from "../src/operations/backup.ts";
import { restore } from "../src/operations/restore.ts";
import { migrate, migrationsOf, undo } from "../src/store/migrate.ts";
import { Plane } from "./support/plane.ts";
import { freshDatabase } from "./support/postgres.ts";

let dir: string;
let plane: Plane;
let source: SQL;
const opened: SQL[] = [];
const open = async (url?: string) => {
  const client = new SQL(url ?? (await freshDatabase()), { max: 2 });
  opened.push(client);
  return client;
};
/** Everything in a database but what each server numbers by itself. */
const contents = async (client: SQL) => {
  const all: Record<string, string[]> = {};
  for (const table of await tablesOf(client)) {
    const rows = await client`select (to_jsonb(t) - 'xact')::text as row from ${client(table)} as t order by 1`;
    all[table] = rows.map(({ row }: { row: string }) => row);
  }
  return all;
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-ops-"));
  plane = await Plane.start();
  source = await open(plane.options.databaseUrl);
  const account = { email: "ann@example.com", password: "correct horse battery", name: 'Ann "\\ü\u2028' };
  await plane.fetch("POST", "/v1/auth/signup", account);
  for (const name of ["one", "two"]) {
    const { id } = await plane.create({ metadata: { quote: `'"\\ ${name}` } });
    await plane.json(201, "POST", `/v1/capsules/${id}/checkpoint`, { name });
    await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
  }
});
afterAll(async () => {
  await Promise.all(opened.map((client) => client.close()));
  await plane[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

describe("backup and restore", () => {
  test("everything comes back, and the system goes on with it", async () => {
    const file = join(dir, "whole.gz");
    await plane.control.stop(); // what it notes by and by is written now
    const before = await contents(source);
    const written = await backup(source, file);
    expect(written.rows).toBe(Object.values(before).flat().length);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const url = await freshDatabase();
    const target = await open(url);
    expect(await restore(target, file)).toEqual(written);
    expect(await contents(target)).toEqual(before);

    plane.control = await start({ ...plane.options, databaseUrl: url });
    const all = await plane.json<{ id: string }[]>(200, "GET", "/v1/capsules");
    expect(all.length).toBe(2);
    expect((await plane.json(200, "POST", `/v1/capsules/${all[0]!.id}/resume`)).status).toBe("running");
    const events = await plane.json<{ event: string }[]>(200, "GET", "/v1/events?order=asc&limit=1000");
    expect(events.length).toBeGreaterThan(before.events!.length); // those from before come first and are seen
  });

  test("a database in use is left as it is", async () => {
    const file = join(dir, "again.gz");
    await backup(source, file);
    const before = await contents(source);
    await expect(restore(source, file)).rejects.toMatchObject({ code: "conflict" });
    expect(await contents(source)).toEqual(before);
  });

  test("a file that is cut short, or something else, restores nothing", async () => {
    const file = join(dir, "cut.gz");
    await backup(source, file);
    const bytes = await Bun.file(file).bytes();
    const target = await open();
    for (const content of [bytes.slice(0, bytes.length - 20), "not gzip", Bun.gzipSync("{}\n"), Bun.gzipSync("")]) {
      await writeFile(file, content as Uint8Array);
      await expect(restore(target, file)).rejects.toMatchObject({ code: "invalid_request" });
      expect((await target`select count(*)::int as n from sandboxes`)[0].n).toBe(0);
    }
    await expect(restore(target, join(dir, "absent"))).rejects.toMatchObject({ code: "invalid_request" });
  });
});

describe("migrations", () => {
  test("go back and forth on data, and what is kept stays as it was", async () => {
    const file = join(dir, "walk.gz");
    await backup(source, file);
    const target = await open();
    await restore(target, file);
    const sandboxes = () => target`select id, state, run, version, metadata from sandboxes order by id`;
    const before = JSON.stringify(await sandboxes());
    const names = await migrationsOf(target);
    const mine = names.filter((name) => /^00[12]\d/.test(name)).reverse();
    expect(mine.length).toBeGreaterThan(0);
    for (const later of names.filter((name) => name > "0030"))
      await target`delete from wrenn_migrations where name = ${later}`;
    expect(await undo(target, 9)).toEqual(mine);
    expect(JSON.stringify(await sandboxes())).toBe(before);
    expect(await undo(target, 9)).toEqual([]);
    // The later ones stayed in the schema: only those that were undone are applied again.
    for (const later of names.filter((name) => name > "0030"))
      await target`insert into wrenn_migrations (version, name) values (${100 + Number(later.slice(0, 4))}, ${later})`;
    await migrate(target);
    expect((await migrationsOf(target)).sort()).toEqual([...names].sort());
    expect(JSON.stringify(await sandboxes())).toBe(before);
    expect((await target`select sum(sandboxes)::int as n from host_loads`)[0].n).toBe(0); // both are paused
  });

  test("what cannot be undone is said before anything is", async () => {
    const target = await open();
    await migrate(target);
    const names = await migrationsOf(target);
    await expect(undo(target, 1)).rejects.toMatchObject({ code: "conflict" });
    expect(await migrationsOf(target)).toEqual(names);
  });
});

describe("a configuration file", () => {
  test("completes the environment, which goes first", async () => {
    const file = join(dir, "wrenn.env");
    await writeFile(file, '# comment\nDATABASE_URL="postgres://x"\nLOG_LEVEL=debug\n');
    const { env, rest } = await environment(["--config", file, "migrate"], { LOG_LEVEL: "warn" });
    expect([env.DATABASE_URL, env.LOG_LEVEL, rest]).toEqual(["postgres://x", "warn", ["migrate"]]);
    expect((await environment([], { WRENN_CONFIG: file })).env.LOG_LEVEL).toBe("debug");
    await expect(environment(["--config", "/absent"], {})).rejects.toMatchObject({ code: "invalid_request" });
    await expect(environment(["--config"], {})).rejects.toMatchObject({ code: "invalid_request" });
  });
});
