import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SQL } from "bun";
import { capacityOf, rank, type Strategy } from "../src/hosts/placement.ts";
import type { LoadedHost } from "../src/store/fleet/hosts.ts";
import { Plane } from "./support/plane.ts";

const host = (id: string, changes: Partial<LoadedHost> = {}): LoadedHost =>
  ({
    ...{ id, zone: "", teamId: null, mode: "active", status: "online", capacityMib: 10_000, cpuCores: 8 },
    load: { memoryMib: 0, vcpus: 0, sandboxes: 0 },
    ...changes,
  }) as LoadedHost;
const loaded = (id: string, memoryMib: number, changes: Partial<LoadedHost> = {}) =>
  host(id, { load: { memoryMib, vcpus: 0, sandboxes: 0 }, ...changes });
const ids = (hosts: LoadedHost[], strategy: Strategy = "least-loaded", needs = {}, turn = 0) =>
  rank(hosts, { team: "t", memoryMib: 1_000, vcpus: 1, ...needs }, strategy, turn).map(({ id }) => id);

describe("ranking", () => {
  const three = [loaded("half", 5_000), loaded("full", 9_500), loaded("empty", 0)];

  test("least-loaded fills the emptiest first, bin-pack the fullest that has room; what seems full comes last", () => {
    expect(ids(three)).toEqual(["empty", "half", "full"]);
    expect(ids(three, "bin-pack")).toEqual(["half", "empty", "full"]);
  });

  test("round-robin begins one further each time", () => {
    const same = [host("a"), host("b"), host("c")];
    expect([0, 1, 2, 3].map((turn) => ids(same, "round-robin", {}, turn)[0])).toEqual(["a", "b", "c", "a"]);
  });

  test("of a large fleet some are compared each time, in turn; all of them where few have what is wanted", () => {
    const many = Array.from({ length: 1_000 }, (_, at) => loaded(`h${at}`, at === 700 ? 0 : 100));
    const seen = new Set([...Array(16).keys()].flatMap((turn) => ids(many, "least-loaded", {}, turn)));
    expect([ids(many).length, seen.size]).toEqual([64, 1_000]);
    expect([...Array(16).keys()].some((turn) => ids(many, "least-loaded", {}, turn)[0] === "h700")).toBe(true);
    expect(ids(many, "least-loaded", { wide: true }).length).toBe(1_000);
    const full = many.map((one) => (one.id === "h700" ? one : loaded(one.id, 9_900)));
    expect([...Array(9).keys()].map((turn) => ids(full, "least-loaded", {}, turn)[0])).toEqual(Array(9).fill("h700"));
  });

  test("hosts that are alike take turns under every strategy", () => {
    const same = [host("a"), host("b")];
    expect(new Set([0, 1].map((turn) => ids(same, "least-loaded", {}, turn)[0])).size).toBe(2);
  });

  test("a host that is cordoned, draining, in maintenance, pending or out of reach takes nothing", () => {
    const away = [
      ...(["cordoned", "draining", "maintenance"] as const).map((mode) => host(mode, { mode })),
      ...(["pending", "unreachable"] as const).map((status) => host(status, { status })),
    ];
    expect(ids([...away, host("there")])).toEqual(["there"]);
  });

  test("a zone is kept to", () =>
    expect(ids([host("a", { zone: "x" }), host("b", { zone: "y" })], "least-loaded", { zone: "y" })).toEqual(["b"]));

  test("a team with hosts of its own uses only those; others never do", () => {
    const all = [host("common"), host("own", { teamId: "t" })];
    expect(ids(all)).toEqual(["own"]);
    expect(ids(all, "least-loaded", { team: "other" })).toEqual(["common"]);
  });

  test("a host of unknown size refuses nothing; busy processors rank last and refuse nothing either", () => {
    expect(ids([loaded("unknown", 99_999, { capacityMib: 0, cpuCores: 0 })])).toEqual(["unknown"]);
    const busy = host("busy", { load: { memoryMib: 0, vcpus: 1_000, sandboxes: 9 } });
    expect(ids([busy, host("idle")])).toEqual(["idle", "busy"]);
  });

  test("a machine keeps an eighth of its memory for itself, at most 8 GiB", () => {
    expect(capacityOf(8_000, 1)).toBe(7_000);
    expect(capacityOf(1_000_000, 1)).toBe(1_000_000 - 8_192);
    expect(capacityOf(8_000, 2)).toBe(14_000);
  });
});

describe("reservations", () => {
  let plane: Plane;
  let sql: SQL;

  beforeAll(async () => {
    plane = await Plane.start();
    sql = new SQL(plane.options.databaseUrl, { max: 1 });
  });
  afterAll(async () => {
    await sql.close();
    await plane[Symbol.asyncDispose]();
  });

  const load = async () => ({ ...(await sql`select memory_mib::int, vcpus::int, sandboxes::int from host_loads`)[0] });
  const room = (mib: number) => sql`update hosts set capacity_mib = ${mib}`;

  test("50 creates at once never reserve more than the host has, and each refusal leaves nothing behind", async () => {
    await room(10 * 512);
    plane.host.delayMs = 30;
    const answers = await Promise.all(Array.from({ length: 50 }, () => plane.fetch("POST", "/v1/capsules", {})));
    const made = answers.filter(({ status }) => status === 201);
    expect([made.length, answers.filter(({ status }) => status === 503).length]).toEqual([10, 40]);
    expect(await load()).toEqual({ memory_mib: 10 * 512, vcpus: 10, sandboxes: 10 });
    expect(plane.host.sandboxes.size).toBe(10);
    const body = (await answers.find(({ status }) => status === 503)!.json()) as { error: object };
    expect(body.error).toMatchObject({ code: "no_hosts_available", remedy: expect.any(String) });

    plane.host.delayMs = 0;
    const [first, ...rest] = (await Promise.all(made.map((answer) => answer.json()))) as { id: string }[];
    await plane.json(204, "DELETE", `/v1/capsules/${first!.id}`);
    expect((await load()).sandboxes).toBe(9);
    await plane.create(); // what was given back is taken again
    for (const { id } of rest) await plane.json(204, "DELETE", `/v1/capsules/${id}`);
    expect((await load()).sandboxes).toBe(1);
    for (const one of await plane.json<{ id: string }[]>(200, "GET", "/v1/capsules"))
      await plane.json(204, "DELETE", `/v1/capsules/${one.id}`);
    expect(await load()).toEqual({ memory_mib: 0, vcpus: 0, sandboxes: 0 });
  });

  test("creates that come together share transactions, each with its row, its events and its reservation", async () => {
    await room(0);
    const transactions = async () =>
      (await sql`select pg_stat_force_next_flush(), sum(xact_commit)::int as n from pg_stat_database`)[0].n as number;
    await plane.create().then(({ id }) => plane.json(204, "DELETE", `/v1/capsules/${id}`));
    const before = (await load()).sandboxes;
    const [{ events }] = await sql`select count(*)::int as events from events`;
    const started = await transactions();
    const made = await Promise.all(Array.from({ length: 64 }, () => plane.create()));
    await Bun.sleep(1_100); // statistics are told once a second
    expect((await transactions()) - started).toBeLessThan(64 * 4);
    expect((await load()).sandboxes).toBe(before + 64);
    const [after] = await sql`select count(*)::int as events from events`;
    expect(after.events - events).toBe(64 * 3); // starting, running, created
    await Promise.all(made.map(({ id }) => plane.json(204, "DELETE", `/v1/capsules/${id}`)));
  });

  test("a list shows at once what another replica, or hand, changed in the database", async () => {
    const { id } = await plane.create();
    const listed = async () =>
      (await plane.json<{ id: string }[]>(200, "GET", "/v1/capsules")).find((one) => one.id === id);
    const single = () => plane.json(200, "GET", `/v1/capsules/${id}`);
    expect(await listed()).toEqual(await single());
    await sql`update sandboxes set name = 'elsewhere' where id = ${id.slice(3)}`;
    expect(await listed()).toMatchObject({ name: "elsewhere" });
    expect(await listed()).toEqual(await single());
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
  });

  test("a pause gives memory back; a resume needs it again, and is refused where there is none", async () => {
    await room(1_024);
    const { id } = await plane.create({ memory_mb: 1_024 });
    await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
    expect((await load()).memory_mib).toBe(0);
    const other = await plane.create({ memory_mb: 512 });
    expect(await plane.refusal("POST", `/v1/capsules/${id}/resume`)).toEqual({
      status: 503,
      code: "no_hosts_available",
    });
    expect((await plane.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("paused");
    await plane.json(204, "DELETE", `/v1/capsules/${other.id}`);
    await plane.json(200, "POST", `/v1/capsules/${id}/resume`);
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
  });

  test("a creation that fails gives its memory back, and its key makes another try", async () => {
    await room(512);
    plane.host.script("create", "1*error(no luck)->off");
    const key = { "idempotency-key": "again" };
    expect((await plane.fetch("POST", "/v1/capsules", {}, key)).status).toBe(500);
    expect((await load()).sandboxes).toBe(0);
    const made = await plane.fetch("POST", "/v1/capsules", {}, key);
    expect(made.status).toBe(201);
    await plane.json(204, "DELETE", `/v1/capsules/${((await made.json()) as { id: string }).id}`);
  });

  test("a cordon refuses a reservation that was decided before it", async () => {
    await room(0);
    await sql`alter table hosts disable trigger hosts_changed_how`; // this replica does not know yet
    await sql`update hosts set mode = 'cordoned'`;
    const refused = await plane.refusal("POST", "/v1/capsules", {});
    await sql`alter table hosts enable trigger hosts_changed_how`;
    await sql`update hosts set mode = 'active'`;
    expect(refused).toEqual({ status: 503, code: "no_hosts_available" });
    expect((await load()).sandboxes).toBe(0);
  });
});
