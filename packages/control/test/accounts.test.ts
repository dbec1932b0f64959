import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { call, Human, login, mailedToken, mailsTo, password } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

let plane: Plane;
let ann: Human;
beforeAll(async () => {
  plane = await Plane.start();
  ann = await Human.join(plane, "Ann");
});
afterAll(() => plane[Symbol.asyncDispose]());

describe("the first account", () => {
  test("administers the installation and owns the team of its key, sandboxes included", async () => {
    const capsule = await plane.create();
    const { body: me } = await ann.ask<rest.Me>("GET", "/v1/me");
    expect(me).toMatchObject({ email: "ann@example.com", is_admin: true, role: "owner", has_password: true });
    const { body: seen } = await ann.ask<rest.Capsule[]>("GET", "/v1/capsules");
    expect(seen.map(({ id }) => id)).toContain(capsule.id);
    expect((await ann.ask("GET", `/v1/capsules/${capsule.id}`)).status).toBe(200);
  });

  test("is the only one: the next has a team of its own, and sees nothing of the first", async () => {
    const bob = await Human.join(plane, "Bob");
    const { body: me } = await bob.ask<rest.Me>("GET", "/v1/me");
    expect(me).toMatchObject({ is_admin: false, role: "owner" });
    const { body: teams } = await bob.ask<rest.Team[]>("GET", "/v1/teams");
    expect(teams).toMatchObject([{ name: "Bob's Team", role: "owner", is_byoc: false }]);
    expect(teams[0]!.slug).toMatch(/^[0-9a-f]{6}-[0-9a-f]{6}$/);
    expect((await bob.ask("GET", "/v1/capsules")).body).toEqual([]);
  });

  test("who signs up at the same time as others is still one", async () => {
    await using fresh = await Plane.start();
    const people = await Promise.all(["Cid", "Dan", "Eve"].map((name) => Human.join(fresh, name)));
    const all = await Promise.all(people.map(async (one) => (await one.ask<rest.Me>("GET", "/v1/me")).body.is_admin));
    expect(all.filter(Boolean)).toHaveLength(1);
  });
});

describe("sign-up", () => {
  test("without a mail server tells the link, and works once", async () => {
    const body = { email: " Fay@Example.com ", name: "Fay", password };
    const { status, body: made } = await call<rest.SignedUp>(plane, "POST", "/v1/auth/signup", body);
    expect(status).toBe(201);
    const token = new URL(made.activation_url!).searchParams.get("token");
    expect(await mailedToken(plane, "fay@example.com")).toBe(token!);
    expect((await login(plane, "fay@example.com", password)).code).toBe("account_not_activated");
    expect((await call(plane, "POST", "/v1/auth/activate", { token })).status).toBe(200);
    expect((await call(plane, "POST", "/v1/auth/activate", { token })).code).toBe("invalid_token");
    expect((await login(plane, "FAY@example.com", password)).status).toBe(200);
  });

  test("with an address that has an account is refused, and soon after another one too", async () => {
    const again = (email: string) => call(plane, "POST", "/v1/auth/signup", { email, name: "X", password });
    expect((await again("ann@example.com")).code).toBe("email_taken");
    expect((await again("gus@example.com")).status).toBe(201);
    expect((await again("gus@example.com")).code).toBe("signup_cooldown");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`update users set created_at = now() - interval '31 minutes' where email = 'gus@example.com'`;
    expect((await again("gus@example.com")).status).toBe(201);
  });

  for (const [what, body] of [
    ["no address", { email: "nobody", name: "X", password }],
    ["two addresses", { email: "a@b.c,d@e.f", name: "X", password }],
    ["a short password", { email: "x@y.z", name: "X", password: "seven77" }],
    ["no name", { email: "x@y.z", name: "  ", password }],
    ["a line break in the name", { email: "x@y.z", name: "X\r\nBcc: all@example.com", password }],
    ["a number for a password", { email: "x@y.z", name: "X", password: 12345678 }],
  ] as const)
    test(`with ${what} is refused`, async () =>
      expect((await call(plane, "POST", "/v1/auth/signup", body)).code).toBe("invalid_request"));

  test("takes a password longer than the 72 bytes that other hashes read, and tells such passwords apart", async () => {
    const long = "ä".repeat(100);
    await call(plane, "POST", "/v1/auth/signup", { email: "hal@example.com", name: "Hal", password: `${long}1` });
    await call(plane, "POST", "/v1/auth/activate", { token: await mailedToken(plane, "hal@example.com") });
    expect((await login(plane, "hal@example.com", `${long}2`)).status).toBe(401);
    expect((await login(plane, "hal@example.com", `${long}1`)).status).toBe(200);
  });

  test("the database holds no password, no token and no readable letter", async () => {
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const token = await mailedToken(plane, "hal@example.com");
    const rows =
      await sql`select (select string_agg(u::text, '') from users u) || (select string_agg(s::text, '') from sessions s)
      || coalesce((select string_agg(t::text, '') from one_time_tokens t), '') || (select string_agg(m::text, '') from mails m) as all`;
    for (const secret of [password, token, ann.auth.token]) expect(rows[0].all).not.toContain(secret);
  });
});

describe("sign-in", () => {
  test("answers the same for a wrong password and an address without an account", async () => {
    const wrong = await login(plane, "ann@example.com", "wrong password");
    const nobody = await login(plane, "nobody@example.com", "wrong password");
    const plain = ({ status, body }: typeof wrong) => ({
      status,
      ...JSON.parse(JSON.stringify(body).replace(/,"request_id":"[^"]+"/, "")),
    });
    expect(plain(wrong)).toEqual(plain(nobody));
    expect(wrong.code).toBe("unauthorized");
  });

  test("is locked after ten wrong passwords, for the right one too, and says how long to wait", async () => {
    await Human.join(plane, "Ida");
    const tries = await Promise.all(
      Array.from({ length: 12 }, () => login(plane, "ida@example.com", "wrong password")),
    );
    expect(tries.filter(({ code }) => code === "unauthorized")).toHaveLength(10);
    const locked = await login(plane, "ida@example.com", password);
    expect([locked.status, locked.code]).toEqual([429, "rate_limited"]);
    expect(Number(locked.headers.get("retry-after"))).toBeGreaterThan(0);
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`update attempts set empty_at = now() where bucket = 'login_account:ida@example.com'`;
    expect((await login(plane, "ida@example.com", password)).status).toBe(200);
  });

  test("gives browsers a cookie that no script reads, which opens what the token opens", async () => {
    const { headers: given, body } = await login(plane, "ann@example.com", password);
    const cookie = given.get("set-cookie")!;
    expect(cookie).toMatch(/^wrenn_session=wrs_[\w-]{43}; Max-Age=\d+; Path=\/; HttpOnly; SameSite=Lax$/);
    const sent = { cookie: `other=1; ${cookie.split(";")[0]}` };
    expect((await call(plane, "GET", "/v1/me", undefined, sent)).status).toBe(200);
    expect(cookie).toContain(body.token);
  });
});

describe("a change by cookie", () => {
  let cookie: string;
  beforeAll(async () => {
    cookie = (await login(plane, "ann@example.com", password)).headers.get("set-cookie")!.split(";")[0]!;
  });
  const patch = (more: Record<string, string>) => call(plane, "PATCH", "/v1/me", { name: "Ann" }, { cookie, ...more });

  test("is refused without the header that no other site can send", async () => {
    const { status, code } = await patch({});
    expect([status, code]).toEqual([403, "csrf_required"]);
  });

  test("is refused from another origin even with it", async () => {
    expect((await patch({ [headers.csrf]: "1", origin: "http://49983-cl-x.localhost" })).code).toBe("csrf_required");
  });

  test("is done from our own page", async () => {
    expect((await patch({ [headers.csrf]: "1", origin: plane.address })).status).toBe(200);
  });
});

describe("a session ends at once", () => {
  const dead = async (human: Human) =>
    expect(await human.refusal("GET", "/v1/capsules")).toEqual([401, "unauthorized"]);

  test("when it is signed out", async () => {
    const session = await ann.again();
    expect((await session.ask("POST", "/v1/auth/logout")).status).toBe(204);
    await dead(session);
  });

  test("when it is ended in the list, which shows all of them", async () => {
    const other = await ann.again();
    const { body: list } = await other.ask<rest.Session[]>("GET", "/v1/me/sessions");
    const mine = list.find(({ current }) => current)!;
    expect((await ann.ask("DELETE", `/v1/me/sessions/${mine.id}`)).status).toBe(204);
    await dead(other);
    expect(await ann.refusal("DELETE", `/v1/me/sessions/${mine.id}`)).toEqual([404, "not_found"]);
  });

  test("when the password is changed, but for the session that changed it", async () => {
    const joe = await Human.join(plane, "Joe");
    const other = await joe.again();
    await other.ask("GET", "/v1/me"); // remembered
    expect(
      await joe.refusal("POST", "/v1/me/password", { new_password: "another one", current_password: "no" }),
    ).toEqual([401, "wrong_password"]);
    const change = { new_password: "another one", current_password: password };
    expect((await joe.ask("POST", "/v1/me/password", change)).status).toBe(204);
    await dead(other);
    expect((await joe.ask("GET", "/v1/me")).status).toBe(200);
    expect((await login(plane, "joe@example.com", password)).status).toBe(401);
    expect((await mailsTo(plane, "joe@example.com"))[0]!.subject).toBe("Your Wrenn password was changed");
  });

  test("when the password is reset by mail, all of them", async () => {
    const kim = await Human.join(plane, "Kim");
    expect((await call(plane, "POST", "/v1/me/password/reset", { email: "kim@example.com" })).status).toBe(204);
    const body = { token: await mailedToken(plane, "kim@example.com"), new_password: "a new password" };
    expect((await call(plane, "POST", "/v1/me/password/reset/confirm", body)).status).toBe(204);
    await dead(kim);
    expect((await call(plane, "POST", "/v1/me/password/reset/confirm", body)).code).toBe("invalid_token");
    expect((await login(plane, "kim@example.com", "a new password")).status).toBe(200);
  });

  test("on every replica", async () => {
    const { start } = await import("../src/index.ts");
    const replica = await start(plane.options);
    try {
      const other = await ann.again();
      const seen = () =>
        fetch(`${replica.address}/v1/me`, { headers: { authorization: `Bearer ${other.auth.token}` } });
      expect((await seen()).status).toBe(200);
      await other.ask("POST", "/v1/auth/logout");
      const began = performance.now();
      while ((await seen()).status !== 401) expect(performance.now() - began).toBeLessThan(4_000); // a cache would say yes for longer
    } finally {
      await replica.stop();
    }
  });
});

test("a forgotten password of an address without an account is answered alike, and mails nothing", async () => {
  expect((await call(plane, "POST", "/v1/me/password/reset", { email: "none@example.com" })).status).toBe(204);
  expect(await mailsTo(plane, "none@example.com")).toEqual([]);
});

test("people find those they share a team with, and nobody else", async () => {
  const lea = await Human.join(plane, "Lea");
  const search = async (human: Human, email: string) =>
    (await human.ask<rest.FoundUser[]>("GET", `/v1/users/search?email=${encodeURIComponent(email)}`)).body;
  expect(await search(lea, "ann@")).toEqual([]);
  expect(await search(lea, "lea@e%_")).toEqual([]);
  expect(await search(lea, "Lea@")).toMatchObject([{ email: "lea@example.com" }]);
  expect((await lea.ask("GET", "/v1/users/search?email=lea")).code).toBe("invalid_request");
});

test("the outbox is for this machine and administrators only", async () => {
  const from = (more: Record<string, string>) => call(plane, "GET", "/v1/dev/outbox", undefined, more);
  expect((await from({ "x-forwarded-for": "192.0.2.1" })).code).toBe("unauthorized");
  expect((await from({ host: "evil.example:80" })).code).toBe("unauthorized");
  const bearer = (human: Human) => ({ "x-forwarded-for": "192.0.2.1", authorization: `Bearer ${human.auth.token}` });
  expect((await from(bearer(ann))).status).toBe(200);
  expect((await from(bearer(await Human.join(plane, "Mia")))).code).toBe("forbidden");
});
