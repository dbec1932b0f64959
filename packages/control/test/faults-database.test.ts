import { describe, expect, test } from "bun:test";
import { SQL } from "bun";
import { Plane } from "./support/plane.ts";

/** A superuser's connections to a plane's database, beside those of the plane. */
const beside = (plane: Plane) => new SQL(plane.options.databaseUrl, { max: 2 });

/** Rows whose reservations are not what there is; none is well. */
const drift = (sql: SQL) => sql`select l.host_id from host_loads l where l.memory_mib <> coalesce((
  select sum(wrenn_memory_of(s)) from sandboxes s where s.host_id = l.host_id), 0)`;

describe("a database that is slow", () => {
  test("keeps requests waiting, more than there are connections, and answers each when it is quick again", async () => {
    await using plane = await Plane.start();
    const { id } = await plane.create();
    await using sql = beside(plane);
    const release = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    const held = sql.begin(async (transaction) => {
      await transaction`lock table sandboxes in access exclusive mode`;
      locked.resolve();
      await release.promise;
    });
    await locked.promise;
    const waiting = Array.from({ length: 40 }, () => plane.fetch("GET", `/v1/capsules/${id}`));
    const creates = Array.from({ length: 5 }, (_, at) =>
      plane.fetch("POST", "/v1/capsules", {}, { "idempotency-key": `slow-${at}` }),
    );
    for (let blocked = 0; blocked < 10; ) {
      // Every connection of the pool waits; what needs none is answered all the same.
      const [row] = await sql`select count(*)::int as blocked from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      ({ blocked } = row);
      expect((await fetch(`${plane.address}/health`)).status).toBe(200);
    }
    release.resolve();
    await held;
    for (const answer of await Promise.all(waiting)) expect(answer.status).toBe(200);
    const made = await Promise.all(creates);
    expect(made.map(({ status }) => status)).toEqual(made.map(() => 201));
    expect([...(await drift(sql))]).toEqual([]);
  });
});

describe("a transaction that PostgreSQL gives up", () => {
  for (const [state, what] of [
    ["40001", "a serialization failure"],
    ["40P01", "a deadlock"],
    ["55P03", "a lock that is not to be had"],
    ["57014", "a statement that was cancelled"],
  ] as const)
    test(`${what} is 503 with the advice to try again, which then succeeds; nothing of it is left`, async () => {
      await using plane = await Plane.start();
      await using sql = beside(plane);
      await sql
        .unsafe(
          `create function give_up() returns trigger language plpgsql as $$
            begin raise exception 'given up' using errcode = '${state}'; end $$;
          create trigger z_give_up before insert on sandboxes for each row execute function give_up();`,
        )
        .simple();
      const asked = () => plane.fetch("POST", "/v1/capsules", {}, { "idempotency-key": "once" });
      const refused = await asked();
      expect([refused.status, ((await refused.json()) as { error: { code: string } }).error.code]).toEqual([
        503,
        "unavailable",
      ]);
      expect([...(await sql`select id from sandboxes`)]).toEqual([]);
      expect([...(await drift(sql))]).toEqual([]);
      await sql`drop trigger z_give_up on sandboxes`;
      expect((await asked()).status).toBe(201);
      expect(plane.host.sandboxes.size).toBe(1);
    });
});

describe("a database that lets few in", () => {
  test("connections that are ended and not given again: requests are served or refused as 503, and all is well after", async () => {
    await using plane = await Plane.start();
    const { id } = await plane.create();
    await using sql = beside(plane);
    // Limits do not hold for superusers.
    const role = `few_${crypto.randomUUID().replaceAll("-", "")}`;
    await sql
      .unsafe(`create role ${role} login; grant all on schema public to ${role};
      grant all on all tables in schema public to ${role}; grant all on all sequences in schema public to ${role}`)
      .simple();
    const url = plane.options.databaseUrl.replace("wrenn@", `${role}@`);
    await plane.control.stop();
    Object.assign(plane.options, { databaseUrl: url });
    await plane.restart();
    await sql.unsafe(`alter role ${role} connection limit 2`);
    const endAll = () => sql`select pg_terminate_backend(pid) from pg_stat_activity where usename = ${role}`;
    await endAll();
    const seen = new Set<number>();
    for (let round = 0; round < 10; round++)
      for (const { status } of await Promise.all(
        Array.from({ length: 12 }, () => plane.fetch("GET", `/v1/capsules/${id}`)),
      ))
        seen.add(status);
    for (const status of seen) expect([200, 503]).toContain(status);
    await sql.unsafe(`alter role ${role} connection limit -1`);
    for (;;) {
      const answers = await Promise.all(Array.from({ length: 12 }, () => plane.fetch("GET", `/v1/capsules/${id}`)));
      if (answers.every(({ status }) => status === 200)) break;
      await Bun.sleep(50);
    }
    expect((await plane.create()).status).toBe("running");
  });
});
