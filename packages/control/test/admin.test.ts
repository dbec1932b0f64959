import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { capsuleId, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { byKey, call, Human, login, mailsTo, password } from "./support/people.ts";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
let ann: Human;
let bob: Human;
beforeAll(async () => {
  plane = await Plane.start();
  ann = await Human.join(plane, "Ann");
  bob = await Human.join(plane, "Bob");
});
afterAll(() => plane[Symbol.asyncDispose]());

type Page = { items: rest.AuditEntry[] };
const entries = async (query: string) =>
  (await ann.ask<Page>("GET", `/v1/admin/audit-logs?limit=200&${query}`)).body.items;

test("administrators see all teams and accounts, page by page", async () => {
  await bob.ask("POST", "/v1/capsules", {});
  const channel = { name: "mine", provider: "webhook", config: { url: "http://127.0.0.1:9" }, events: ["host.up"] };
  expect((await bob.ask("POST", "/v1/channels", channel)).status).toBe(201);
  const { body: teams } = await ann.ask<rest.AdminTeams>("GET", "/v1/admin/teams");
  expect(teams).toMatchObject({ total: 2, page: 1, per_page: 100, total_pages: 1 });
  expect(teams.teams.find(({ id }) => id === bob.auth.team_id)).toMatchObject({
    name: "Bob's Team",
    owner_email: "bob@example.com",
    member_count: 1,
    active_sandbox_count: 1,
    channel_count: 1,
  });
  const { body: users } = await ann.ask<rest.AdminUsers>("GET", "/v1/admin/users");
  expect(users.users.map(({ email, is_admin }) => [email, is_admin])).toEqual([
    ["bob@example.com", false],
    ["ann@example.com", true],
  ]);
  const { body: second } = await ann.ask<rest.AdminUsers>("GET", "/v1/admin/users?page=2");
  expect(second).toMatchObject({ users: [], total: 2, page: 2 });
  expect(await ann.refusal("GET", "/v1/admin/users?page=0")).toEqual([400, "invalid_request"]);
});

describe("an account that is disabled", () => {
  test("is out at once with its keys, and the sandboxes of its teams are gone; enabled again it signs in", async () => {
    const cid = await Human.join(plane, "Cid");
    const { body: made } = await cid.ask<rest.NewApiKey>("POST", "/v1/api-keys", {});
    const { body: capsule } = await cid.ask<rest.Capsule>("POST", "/v1/capsules", {});
    const active = (value: boolean) => ann.ask("PUT", `/v1/admin/users/${cid.auth.user_id}/active`, { active: value });
    expect((await active(false)).status).toBe(204);
    expect(await cid.refusal("GET", "/v1/me")).toEqual([401, "unauthorized"]);
    expect((await byKey(plane, made.key, "GET", "/v1/capsules")).code).toBe("unauthorized");
    expect((await login(plane, "cid@example.com", password)).code).toBe("account_disabled");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    while ((await sql`select state from sandboxes where id = ${capsule.id.slice(3)}`)[0].state !== "stopped")
      await Bun.sleep(5);
    expect((await active(true)).status).toBe(204);
    expect((await login(plane, "cid@example.com", password)).status).toBe(200);
    expect((await entries("action=deactivate"))[0]).toMatchObject({
      actor_name: "Ann",
      metadata: { email: "cid@example.com" },
    });
  });

  test("is not one's own", async () =>
    expect(await ann.refusal("PUT", `/v1/admin/users/${ann.auth.user_id}/active`, { active: false })).toEqual([
      400,
      "invalid_request",
    ]));
});

test("an account whose mail never came is opened by an administrator", async () => {
  await call(plane, "POST", "/v1/auth/signup", { email: "dan@example.com", name: "Dan", password });
  const { body } = await ann.ask<rest.AdminUsers>("GET", "/v1/admin/users");
  const dan = body.users.find(({ email }) => email === "dan@example.com")!;
  expect(dan.status).toBe("inactive");
  expect((await ann.ask("PUT", `/v1/admin/users/${dan.id}/active`, { active: true })).status).toBe(204);
  expect((await login(plane, "dan@example.com", password)).status).toBe(200);
});

test("administrators are made and unmade, but for the last, and it holds from the next request on", async () => {
  const admin = (who: Human, value: boolean) =>
    ann.ask("PUT", `/v1/admin/users/${who.auth.user_id}/admin`, { is_admin: value });
  expect(await bob.refusal("GET", "/v1/admin/users")).toEqual([403, "forbidden"]);
  expect((await admin(ann, false)).code).toBe("forbidden");
  expect((await admin(bob, true)).status).toBe(204);
  expect((await bob.ask("GET", "/v1/admin/users")).status).toBe(200);
  expect((await admin(bob, false)).status).toBe(204);
  expect(await bob.refusal("GET", "/v1/admin/users")).toEqual([403, "forbidden"]);
});

describe("acting as somebody", () => {
  test("is told in both audit logs, ends, and opens no second account", async () => {
    const { status, body } = await ann.ask<rest.AuthResponse>(
      "POST",
      `/v1/admin/users/${bob.auth.user_id}/impersonate`,
      {
        reason: "ticket 7",
      },
    );
    expect(status).toBe(201);
    const as = new Human(plane, body);
    expect((await as.ask<rest.Me>("GET", "/v1/me")).body).toMatchObject({
      email: "bob@example.com",
      impersonated_by: ann.auth.user_id,
    });
    await as.ask("POST", "/v1/api-keys", { name: "by support" });
    const { body: own } = await bob.ask<Page>("GET", "/v1/audit-logs");
    expect(own.items.find(({ action }) => action === "impersonate")).toMatchObject({
      actor_name: "Ann",
      metadata: { reason: "ticket 7" },
    });
    expect(own.items.find(({ resource_type }) => resource_type === "api_key")).toMatchObject({
      actor_name: "Bob",
      metadata: { impersonated_by: ann.auth.user_id },
    });
    expect((await bob.ask<rest.Session[]>("GET", "/v1/me/sessions")).body).toHaveLength(1);
    expect((await as.ask("POST", "/v1/auth/logout")).status).toBe(204);
    expect(await as.refusal("GET", "/v1/me")).toEqual([401, "unauthorized"]);
  });

  test("needs a reason, and is not for administrators' accounts", async () => {
    expect(await ann.refusal("POST", `/v1/admin/users/${bob.auth.user_id}/impersonate`, { reason: " " })).toEqual([
      400,
      "invalid_request",
    ]);
    expect(await ann.refusal("POST", `/v1/admin/users/${ann.auth.user_id}/impersonate`, { reason: "x" })).toEqual([
      403,
      "forbidden",
    ]);
  });
});

test("sandboxes of the installation's own team are reached from any team, and no others", async () => {
  const elsewhere = await ann.in((await ann.ask<rest.Team>("POST", "/v1/teams", { name: "Side" })).body.id);
  const { status, body: made } = await elsewhere.ask<rest.Capsule>("POST", "/v1/admin/capsules", {});
  expect(status).toBe(201);
  expect((await byKey(plane, apiKey, "GET", `/v1/capsules/${made.id}`)).status).toBe(200);
  const ask = (method: string, path: string, body?: unknown) =>
    elsewhere.ask(method, `/v1/admin/capsules/${made.id}${path}`, body);
  const results = await Promise.all([
    ask("GET", ""),
    ask("POST", "/exec", { cmd: "/bin/true" }),
    ask("POST", "/files/list", { path: "/" }),
    ask("GET", "/processes"),
  ]);
  expect(results.map((one) => one.status)).toEqual([200, 200, 200, 200]);
  const { body: theirs } = await bob.ask<rest.Capsule>("POST", "/v1/capsules", {});
  expect(await elsewhere.refusal("GET", `/v1/admin/capsules/${theirs.id}`)).toEqual([404, "not_found"]);
  expect(await bob.refusal("GET", `/v1/admin/capsules/${made.id}`)).toEqual([403, "forbidden"]);
  const { status: taken } = await ask("POST", "/snapshot", { name: "base-2" });
  expect(taken).toBe(201);
  expect((await elsewhere.ask<rest.Capsule>("GET", `/v1/admin/capsules/${made.id}`)).body.status).toBe("stopped");
  expect((await byKey(plane, apiKey, "GET", "/v1/snapshots/base-2")).status).toBe(200);
  expect((await elsewhere.ask("DELETE", `/v1/admin/capsules/${capsuleId("0".repeat(25) as never)}`)).code).toBe(
    "not_found",
  );
});

test("files of the installation's sandboxes are reached by the guest agent's own protocol, and its snapshots removed", async () => {
  const { id } = await plane.create();
  const health = `/v1/admin/capsules/${id}/agent/health`;
  expect((await ann.ask("GET", health)).status).toBeLessThan(300);
  expect(await bob.refusal("GET", health)).toEqual([403, "forbidden"]);
  expect((await ann.ask("POST", `/v1/admin/capsules/${id}/snapshot`, { name: "ours" })).status).toBe(201);
  expect((await ann.ask("DELETE", "/v1/admin/templates/ours")).status).toBe(204);
  expect(await ann.refusal("DELETE", "/v1/admin/templates/ours")).toEqual([404, "not_found"]);
});

test("an administrator's terminal reaches them too, a member's does not", async () => {
  const { body: made } = await ann.ask<rest.Capsule>("POST", "/v1/admin/capsules", {});
  const first = (human: Human) =>
    new Promise<{ type: string }>((resolve) => {
      const socket = new WebSocket(`${plane.address.replace("http", "ws")}/v1/admin/capsules/${made.id}/pty`);
      socket.onopen = () => {
        socket.send(JSON.stringify({ type: "auth", token: human.auth.token }));
        socket.send(JSON.stringify({ type: "start", cmd: "/bin/true" }));
      };
      socket.onmessage = ({ data }) => resolve(JSON.parse(String(data)));
    });
  expect((await first(ann)).type).toBe("started");
  expect((await first(bob)).type).toBe("error");
});

test("whoever loses access loses an open terminal with it", async () => {
  const eve = await Human.join(plane, "Eve");
  const { body: made } = await eve.ask<rest.Capsule>("POST", "/v1/capsules", {});
  const socket = new WebSocket(`${plane.address.replace("http", "ws")}/v1/capsules/${made.id}/pty`, {
    headers: { authorization: `Bearer ${eve.auth.token}` },
  } as never);
  const closed = new Promise((resolve) => {
    socket.onclose = resolve;
  });
  await new Promise<void>((started) => {
    socket.onopen = () => socket.send(JSON.stringify({ type: "start", cmd: "/bin/cat" }));
    socket.onmessage = ({ data }) => JSON.parse(String(data)).type === "started" && started();
  });
  await eve.ask("POST", "/v1/auth/logout");
  await closed;
});

test("whoever loses access hears no more events", async () => {
  const hal = await Human.join(plane, "Hal");
  const answer = await fetch(`${plane.address}/v1/events/stream`, {
    headers: { authorization: `Bearer ${hal.auth.token}` },
  });
  const heard = answer.text();
  await hal.ask("POST", "/v1/auth/logout");
  expect(await heard).toContain("event: connected");
});

describe("settings", () => {
  test("decide who may sign up; the policy is told to the sign-in page", async () => {
    const sign = (email: string) => call(plane, "POST", "/v1/auth/signup", { email, name: "X", password });
    await ann.ask("PATCH", "/v1/admin/settings", { signup: "closed" });
    expect((await sign("x1@example.com")).code).toBe("forbidden");
    expect((await call<rest.AuthOptions>(plane, "GET", "/v1/auth/options")).body.signup).toBe("closed");
    await ann.ask("PATCH", "/v1/admin/settings", { signup: "open" });
    expect((await sign("x1@example.com")).status).toBe(201);
  });

  test("carry a tag: a change of what somebody else changed meanwhile is refused", async () => {
    const get = (more: Record<string, string> = {}) =>
      call<rest.Settings>(plane, "GET", "/v1/admin/settings", undefined, {
        authorization: `Bearer ${ann.auth.token}`,
        ...more,
      });
    const patch = (etag: string, features: object) =>
      call(
        plane,
        "PATCH",
        "/v1/admin/settings",
        { features },
        { authorization: `Bearer ${ann.auth.token}`, "if-match": etag },
      );
    const etag = (await get()).headers.get("etag")!;
    expect((await get({ "if-none-match": etag })).status).toBe(304);
    expect((await patch(etag, { desktop: true })).status).toBe(200);
    expect((await patch(etag, { desktop: false })).code).toBe("precondition_failed");
    expect((await get({ "if-none-match": etag })).status).toBe(200);
    expect((await bob.ask("GET", "/v1/features")).body).toEqual({ features: { desktop: true } });
  });
});

test("a deleted team is gone, a team is made to run on its own hosts only, and neither leaks to others", async () => {
  const fay = await Human.join(plane, "Fay");
  expect((await ann.ask("PUT", `/v1/admin/teams/${fay.auth.team_id}/byoc`, { enabled: true })).status).toBe(204);
  expect((await fay.ask<rest.Team[]>("GET", "/v1/teams")).body[0]).toMatchObject({ is_byoc: true });
  expect(await ann.refusal("PUT", `/v1/admin/teams/${fay.auth.team_id}/byoc`, { enabled: false })).toEqual([
    400,
    "invalid_request",
  ]);
  const { id: volume } = (await fay.ask<rest.Volume>("POST", "/v1/volumes", { name: "left" })).body;
  expect(plane.host.volumes.has(volume)).toBe(true);
  expect((await ann.ask("DELETE", `/v1/admin/teams/${fay.auth.team_id}`)).status).toBe(204);
  while (plane.host.volumes.has(volume)) await Bun.sleep(10); // at once: what is looked for now and then is a minute away
  expect(await fay.refusal("GET", "/v1/capsules")).toEqual([401, "unauthorized"]);
  expect(await ann.refusal("DELETE", `/v1/admin/teams/${fay.auth.team_id}`)).toEqual([404, "not_found"]);
  expect(await ann.refusal("DELETE", `/v1/admin/teams/${ann.auth.team_id}`)).toEqual([403, "forbidden"]);
});

test("a closed account is erased after its time, its name from the audit log too, whose chain still holds", async () => {
  const gus = await Human.join(plane, "Gus");
  await ann.ask("POST", `/v1/teams/${ann.auth.team_id}/members`, { email: "gus@example.com" });
  const member = await gus.in(ann.auth.team_id);
  await member.ask("POST", "/v1/api-keys", { name: "g" });
  await member.ask("DELETE", "/v1/me", { confirmation: "gus@example.com" });
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  const gone = async () => (await sql`select 1 from users where email = 'gus@example.com'`).length === 0;
  await plane.restart();
  expect(await gone()).toBe(false);
  await sql`update users set deleted_at = now() - interval '16 days' where email = 'gus@example.com'`;
  await plane.restart();
  while (!(await gone())) await Bun.sleep(10);
  const mine = (await ann.ask<Page>("GET", "/v1/audit-logs?limit=200")).body.items;
  const made = mine.filter(({ actor_id }) => actor_id === gus.auth.user_id);
  expect(made.length).toBeGreaterThan(0);
  expect(made.filter(({ actor_name }) => actor_name)).toEqual([]);
  expect((await ann.ask<{ ok: boolean }>("GET", "/v1/audit-logs/verify")).body.ok).toBe(true);
  expect((await mailsTo(plane, "gus@example.com"))[0]!.subject).toBe("Your Wrenn account was erased");
});
