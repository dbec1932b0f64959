import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { Human, login } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

type Page = { items: rest.AuditEntry[]; next_before?: string; next_before_id?: string };
let plane: Plane;
let ann: Human;
let capsule: rest.Capsule;
beforeAll(async () => {
  plane = await Plane.start();
  ann = await Human.join(plane, "Ann");
  capsule = await plane.create();
});
afterAll(() => plane[Symbol.asyncDispose]());

const page = async (query = "", who = ann) => (await who.ask<Page>("GET", `/v1/audit-logs?${query}`)).body;
const all = async (who = ann) => (await page("limit=200", who)).items;
const found = async (action: string) => (await all()).find((entry) => entry.action === action);

describe("the audit log tells", () => {
  test("the life of sandboxes, and who changed it", async () => {
    await plane.json(200, "POST", `/v1/capsules/${capsule.id}/pause`);
    await ann.ask("POST", `/v1/capsules/${capsule.id}/resume`);
    expect(await found("create")).toMatchObject({
      actor_type: "api_key",
      resource_type: "sandbox",
      resource_id: capsule.id,
    });
    expect(await found("resume")).toMatchObject({ actor_type: "user", actor_id: ann.auth.user_id, actor_name: "Ann" });
  });

  test("what the system does by itself, with the reason", async () => {
    const { id } = await plane.create();
    const { hostagent } = await import("@wrenn/contract");
    plane.host.change(id.slice(3), hostagent.SandboxState.PAUSED, "timeout");
    await plane.until(id, "paused");
    expect((await all()).find((entry) => entry.resource_id === id && entry.action === "pause")).toMatchObject({
      actor_type: "system",
      status: "info",
      metadata: { reason: "timeout" },
    });
  });

  test("commands, files and terminals, by whatever route", async () => {
    await ann.ask("POST", `/v1/capsules/${capsule.id}/exec`, { cmd: "/bin/true" });
    await plane.json(200, "POST", `/v1/capsules/${capsule.id}/files/list`, { path: "/" });
    await plane.fetch("GET", `/v1/capsules/${capsule.id}/agent/files?path=/etc/hostname`);
    await plane.fetch("POST", `/v1/capsules/${capsule.id}/files/read`, { path: "/no/such/file" });
    expect(await found("exec")).toMatchObject({
      actor_type: "user",
      metadata: { cmd: "/bin/true" },
      status: "success",
    });
    expect(await found("file_list")).toMatchObject({ actor_type: "api_key", metadata: { path: "/" } });
    const reads = (await all()).filter(({ action }) => action === "file_read");
    expect(reads).toMatchObject([
      { status: "error", metadata: { path: "/no/such/file", status: "404" } },
      { status: "success", metadata: { path: "/etc/hostname" } },
    ]);
    const socket = new WebSocket(`${plane.address.replace("http", "ws")}/v1/capsules/${capsule.id}/pty`, {
      headers: { [headers.apiKey]: plane.options.bootstrapApiKey! },
    } as never);
    socket.onopen = () => socket.send(JSON.stringify({ type: "start", cmd: "/bin/true" }));
    await new Promise((closed) => {
      socket.onclose = closed;
    });
    while (!(await found("terminal"))) await Bun.sleep(10);
  });

  test("sign-ins, those that failed too, and where from", async () => {
    await login(plane, "ann@example.com", "wrong password");
    await ann.again();
    const signs = (await all()).filter(({ action }) => action === "sign_in");
    expect(signs[0]).toMatchObject({
      status: "success",
      scope: "admin",
      metadata: { how: "password", ip: "127.0.0.1" },
    });
    expect(signs[1]).toMatchObject({
      status: "error",
      metadata: { code: "unauthorized" },
      actor_name: "ann@example.com",
    });
  });

  test("keys and members", async () => {
    await ann.ask("POST", "/v1/api-keys", { name: "ci" });
    const bob = await Human.join(plane, "Bob");
    await ann.ask("POST", `/v1/teams/${ann.auth.team_id}/members`, { email: "bob@example.com" });
    expect((await all()).slice(0, 2)).toMatchObject([
      {
        resource_type: "member",
        action: "add",
        scope: "admin",
        metadata: { email: "bob@example.com", role: "member" },
      },
      { resource_type: "api_key", action: "create", metadata: { name: "ci" } },
    ]);
    const member = await bob.in(ann.auth.team_id);
    const seen = await all(member);
    expect(seen.length).toBeGreaterThan(3);
    expect(seen.filter(({ scope }) => scope === "admin")).toEqual([]);
    expect(await member.refusal("GET", "/v1/audit-logs/export")).toEqual([403, "forbidden"]);
  });
});

test("tells who changed channels, hosts and templates, by the names they have, and who tried to", async () => {
  const config = { webhook_url: "https://192.0.2.1/x" };
  const body = { name: "hook", provider: "discord", config, events: ["capsule.created"] };
  await ann.ask("POST", "/v1/channels", body);
  await ann.ask("DELETE", `/v1/hosts/host-${"0".repeat(25)}`);
  await ann.ask("DELETE", "/v1/templates/tools%3Av2");
  expect((await all()).slice(0, 3)).toMatchObject([
    { resource_type: "template", resource_id: "tools:v2", action: "delete", status: "error" },
    { resource_type: "host", action: "delete", status: "error", metadata: { status: "404" }, scope: "admin" },
    { resource_type: "channel", action: "create", metadata: { name: "hook", provider: "discord" } },
  ]);
});

test("pages neither repeat nor skip an entry, however many fall on one moment", async () => {
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  await sql`insert into audit_logs (id, team_id, actor_type, resource_type, action, scope, status, created_at)
    select 'log-' || lpad(i::text, 25, '0'), ${ann.auth.team_id}, 'system', 'burst', 'test', 'team', 'info', '2026-01-01T00:00:00.123Z'
    from generate_series(1, 57) i`;
  const seen: string[] = [];
  let query = "resource_type=burst&limit=10";
  for (;;) {
    const { items, next_before, next_before_id } = await page(query);
    if (items.length === 0) break;
    seen.push(...items.map(({ id }) => id));
    query = `resource_type=burst&limit=10&before=${next_before}&before_id=${next_before_id}`;
  }
  expect(seen).toHaveLength(57);
  expect(new Set(seen).size).toBe(57);
});

test("filters by repeated and by comma separated words", async () => {
  const { items } = await page("resource_type=api_key,member&action=add&action=create");
  expect(items.map(({ action }) => action)).toEqual(["add", "create"]);
});

test("what the holder of a sandbox's token does through the agent's port is told too", async () => {
  const made = await plane.fetch("POST", "/sandboxes", { templateID: "minimal" });
  const { sandboxID: id, envdAccessToken: token } = (await made.json()) as Record<string, string>;
  const at = { [headers.e2bSandboxId]: id!, [headers.e2bSandboxPort]: "49983" };
  const read = await fetch(`${plane.address}/files?path=/etc/passwd`, {
    headers: { ...at, [headers.accessToken]: token! },
  });
  expect(read.status).toBe(200);
  const told = async () => (await all()).find(({ metadata }) => metadata?.path === "/etc/passwd");
  while (!(await told())) await Bun.sleep(20);
  expect(await told()).toMatchObject({ action: "file_read", resource_id: `cl-${id}`, actor_type: "api_key" });
});

test("entries of a time when the database is away are written when it is back, and no text keeps one from being stored", async () => {
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  await sql`alter table audit_logs rename to audit_away`;
  await ann.ask("POST", `/v1/capsules/${capsule.id}/exec`, { cmd: "/bin/echo", args: ["x"] });
  await plane.fetch("POST", `/v1/capsules/${capsule.id}/files/list`, { path: "/away\0" });
  await Bun.sleep(400);
  await sql`alter table audit_away rename to audit_logs`;
  for (;;) {
    const listed = (await all()).find(
      ({ action, metadata }) => action === "file_list" && metadata?.path?.startsWith("/away"),
    );
    if (listed) break;
    await Bun.sleep(20);
  }
  expect((await all()).find(({ metadata }) => metadata?.cmd === "/bin/echo")).toMatchObject({ action: "exec" });
});

describe("the chain", () => {
  const verdict = async () => (await ann.ask<{ ok: boolean; broken?: object }>("GET", "/v1/audit-logs/verify")).body;
  test("is whole, and numbers without a gap", async () => {
    expect((await verdict()).ok).toBe(true);
    const numbers = (await all()).map(({ seq }) => seq!).sort((a, b) => a - b);
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, at) => numbers[0]! + at));
  });

  test("shows a change, and is whole again when it is undone", async () => {
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const rename = (name: string) =>
      sql`update audit_logs set actor_name = ${name} where team_id = ${ann.auth.team_id} and seq = 3`;
    const [row] = await sql`select actor_name from audit_logs where team_id = ${ann.auth.team_id} and seq = 3`;
    await rename("Eve");
    expect(await verdict()).toMatchObject({ ok: false, broken: { seq: 3, reason: "an entry was changed" } });
    await rename(row.actor_name);
    expect(await verdict()).toMatchObject({ ok: true });
  });

  test("shows an entry that is missing, and missing newest ones", async () => {
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const [last] =
      await sql`delete from audit_logs where team_id = ${ann.auth.team_id} and seq = (select max(seq) from audit_logs where team_id = ${ann.auth.team_id}) returning seq`;
    expect(await verdict()).toMatchObject({ ok: false, broken: { seq: Number(last.seq) } });
    await sql`delete from audit_logs where team_id = ${ann.auth.team_id} and seq = 2`;
    expect(await verdict()).toMatchObject({ ok: false, broken: { seq: 2, reason: "an entry is missing" } });
  });
});

test("is exported whole, and a spreadsheet runs nothing of it", async () => {
  await ann.ask("PATCH", "/v1/me", { name: '=HYPERLINK("http://evil","x")' });
  await ann.ask("POST", "/v1/api-keys", {});
  const get = async (format: string) => {
    const answer = await fetch(`${plane.address}/v1/audit-logs/export?format=${format}`, {
      headers: { authorization: `Bearer ${ann.auth.token}` },
    });
    return { type: answer.headers.get("content-type"), text: await answer.text() };
  };
  const ndjson = await get("ndjson");
  const entries = ndjson.text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(entries.length).toBeGreaterThan(60);
  expect(new Set(entries.map(({ id }) => id)).size).toBe(entries.length);
  const csv = await get("csv");
  expect(csv.type).toBe("text/csv; charset=utf-8");
  expect(csv.text.split("\r\n")[0]).toStartWith("id,created_at,actor_type");
  expect(csv.text.split("\r\n").filter((line) => line !== "")).toHaveLength(entries.length + 1);
  expect(csv.text).toContain(`"'=HYPERLINK(`);
  expect(csv.text).not.toMatch(/(^|,)"?=/m);
});
