import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { byKey, call, Human, mailedToken, mailsTo } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

let plane: Plane;
let ann: Human;
let bob: Human;
let cid: Human;
beforeAll(async () => {
  plane = await Plane.start();
  ann = await Human.join(plane, "Ann");
  [bob, cid] = await Promise.all([Human.join(plane, "Bob"), Human.join(plane, "Cid")]);
});
afterAll(() => plane[Symbol.asyncDispose]());

const make = async (who: Human, body: object = {}) =>
  (await who.ask<rest.NewApiKey>("POST", "/v1/api-keys", body)).body;

describe("an API key", () => {
  test("is shown once, opens the team in both dialects' spelling, and its use is told", async () => {
    const { key, ...made } = await make(bob, { name: "ci" });
    expect(key).toMatch(/^wrn_[0-9a-f]{32}$/);
    expect(made).toMatchObject({ name: "ci", key_prefix: key.slice(0, 10), created_by: bob.auth.user_id });
    expect((await byKey(plane, key, "GET", "/v1/capsules")).body).toEqual([]);
    expect((await byKey(plane, key.replace("wrn_", "e2b_"), "GET", "/v1/capsules")).status).toBe(200);
    const { body: list } = await bob.ask<rest.ApiKey[]>("GET", "/v1/api-keys");
    expect(list.find(({ id }) => id === made.id)).toMatchObject({ creator_email: "bob@example.com" });
    expect(JSON.stringify(list)).not.toContain(key);
  });

  test("ends at once when it is revoked, and revoking it again is well", async () => {
    const { id, key } = await make(bob);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).status).toBe(200);
    expect((await bob.ask("DELETE", `/v1/api-keys/${id}`)).status).toBe(204);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).code).toBe("unauthorized");
    expect((await bob.ask("DELETE", `/v1/api-keys/${id}`)).status).toBe(204);
  });

  test("that ends takes those who follow by it along: load, network, and what a guest's agent streams", async () => {
    const { id: key, key: text } = await make(bob);
    const sent = { [headers.apiKey]: text };
    const { body } = await byKey(plane, text, "POST", "/v1/capsules", {});
    const at = `${plane.address}/v1/capsules/${(body as rest.Capsule).id}`;
    const start = { process: { cmd: "/bin/sleep", args: ["600"] } };
    const connect = { "content-type": "application/connect+json", "connect-protocol-version": "1" };
    const json = Buffer.from(JSON.stringify(start));
    const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, json.length]), json]);
    const followed = await Promise.all([
      fetch(`${at}/metrics?follow=true`, { headers: sent }),
      fetch(`${at}/network?follow=true`, { headers: sent }),
      fetch(`${at}/agent/process.Process/Start`, { method: "POST", headers: { ...sent, ...connect }, body: frame }),
    ]);
    expect(followed.map(({ status }) => status)).toEqual([200, 200, 200]);
    const ends = followed.map(async ({ body }) => {
      for await (const _ of body!);
    });
    expect((await bob.ask("DELETE", `/v1/api-keys/${key}`)).status).toBe(204);
    await Promise.all(ends);
    await bob.ask("DELETE", at.slice(plane.address.length));
  });

  test("has an entity tag that its use does not change; another name, or its end, by the tag it had is refused", async () => {
    const { id, key } = await make(bob, { name: "old" });
    const path = `/v1/api-keys/${id}`;
    const tag = (await bob.ask("GET", path)).headers.get("etag")!;
    expect((await byKey(plane, key, "GET", "/v1/capsules")).status).toBe(200);
    const as = { authorization: `Bearer ${bob.auth.token}`, "if-match": tag };
    const renamed = await call<rest.ApiKey>(plane, "PATCH", path, { name: "new" }, as);
    expect([renamed.status, renamed.body.name]).toEqual([200, "new"]);
    expect((await call(plane, "PATCH", path, { name: "newer" }, as)).code).toBe("precondition_failed");
    expect((await call(plane, "DELETE", path, undefined, as)).code).toBe("precondition_failed");
    expect((await cid.ask("GET", path)).code).toBe("not_found");
    expect((await cid.ask("PATCH", path, { name: "mine" })).code).toBe("not_found");
    expect((await bob.ask<rest.ApiKey>("GET", path)).body.name).toBe("new");
    const now = { ...as, "if-match": renamed.headers.get("etag")! };
    expect((await call(plane, "DELETE", path, undefined, now)).status).toBe(204);
  });

  test("of another team is not touched by revoking it", async () => {
    const { id, key } = await make(bob);
    expect((await cid.ask("DELETE", `/v1/api-keys/${id}`)).status).toBe(204);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).status).toBe(200);
  });

  test("ends when its time is over, in the cache too, and cannot be made with a time that is", async () => {
    const end = Date.now() + 3_000; // a busy machine takes its time to make the key and to ask with it
    const { key } = await make(bob, { expires_at: new Date(end).toISOString() });
    expect((await byKey(plane, key, "GET", "/v1/capsules")).status).toBe(200);
    await Bun.sleep(end + 50 - Date.now());
    expect((await byKey(plane, key, "GET", "/v1/capsules")).code).toBe("unauthorized");
    expect((await bob.ask("POST", "/v1/api-keys", { expires_at: "2020-01-01T00:00:00Z" })).code).toBe(
      "invalid_request",
    );
  });

  test("with scopes does what they say, and nothing else, in either dialect", async () => {
    const { key } = await make(ann, { scopes: ["sandboxes:read"] });
    const { id } = await plane.create();
    const seen = await Promise.all([
      byKey(plane, key, "GET", `/v1/capsules/${id}`),
      byKey(plane, key, "POST", `/v1/capsules/${id}/exec`, { cmd: "/bin/true" }),
      byKey(plane, key, "DELETE", `/v1/capsules/${id}`),
      byKey(plane, key, "GET", `/v1/capsules/${id}/agent/health`),
      byKey(plane, key, "GET", "/v1/snapshots"),
      byKey(plane, key, "GET", "/sandboxes"),
    ]);
    expect(seen.map(({ status }) => status)).toEqual([200, 403, 403, 403, 403, 403]);
    expect((await ann.ask("POST", "/v1/api-keys", { scopes: ["everything"] })).code).toBe("invalid_request");
  });

  test("made for channels manages them, or only reads them; one without scopes does not", async () => {
    const channel = { name: "by-key", provider: "webhook", config: { url: "http://127.0.0.1:9" }, events: ["host.up"] };
    const { key } = await make(ann, { scopes: ["channels:read", "channels:write"] });
    const made = await byKey(plane, key, "POST", "/v1/channels", channel);
    expect(made.status).toBe(201);
    const path = `/v1/channels/${(made.body as rest.Channel).id}`;
    const reader = (await make(ann, { scopes: ["channels:read"] })).key;
    expect((await byKey(plane, reader, "GET", path)).status).toBe(200);
    expect((await byKey(plane, reader, "DELETE", path)).code).toBe("forbidden");
    expect((await byKey(plane, (await make(ann)).key, "DELETE", path)).code).toBe("unauthorized");
    expect((await byKey(plane, key, "DELETE", path)).status).toBe(204);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).code).toBe("forbidden");
  });

  test("made for secrets reads or keeps them", async () => {
    const { key } = await make(ann, { scopes: ["secrets:write"] });
    expect((await byKey(plane, key, "POST", "/secrets", { name: "TOKEN", value: "x" })).status).toBe(201);
    expect((await byKey(plane, key, "GET", "/secrets")).status).toBe(403);
  });

  test("opens nothing that is for people", async () => {
    const { key } = await make(bob);
    for (const path of ["/v1/me", "/v1/api-keys", "/v1/teams", "/v1/audit-logs"])
      expect((await byKey(plane, key, "GET", path)).code).toBe("unauthorized");
  });

  test("is counted as used without a write for each request", async () => {
    const { id, key } = await make(bob);
    await Promise.all(Array.from({ length: 20 }, () => byKey(plane, key, "GET", "/v1/capsules")));
    await plane.restart();
    const { body } = await bob.ask<rest.ApiKey[]>("GET", "/v1/api-keys");
    expect(body.find((one) => one.id === id)?.last_used).toBeTruthy();
  });
});

describe("a team", () => {
  let team: string;
  let owner: Human;
  beforeAll(async () => {
    team = (await bob.ask<rest.Team>("POST", "/v1/teams", { name: "Lab 7" })).body.id;
    owner = await bob.in(team);
  });
  const at = (path = "") => `/v1/teams/${team}${path}`;
  const members = async () =>
    (await owner.ask<rest.Member[]>("GET", at("/members"))).body.map(({ email, role }) => [email.split("@")[0], role]);

  test("is entered by who belongs to it, and by nobody else; an id that does not exist looks the same", async () => {
    const nothing = `team-${"z".repeat(25)}`;
    const refusals = await Promise.all(
      [team, nothing].map((id) => cid.ask("POST", "/v1/auth/switch-team", { team_id: id })),
    );
    expect(refusals.map(({ status, code }) => [status, code])).toEqual([
      [404, "not_found"],
      [404, "not_found"],
    ]);
    for (const [method, path, body] of [
      ["GET", ""],
      ["PATCH", "", { name: "X" }],
      ["DELETE", ""],
      ["GET", "/members"],
      ["POST", "/members", { email: "cid@example.com" }],
      ["DELETE", `/members/${bob.auth.user_id}`],
      ["POST", "/leave"],
      ["GET", "/invitations"],
    ] as const)
      expect([
        await cid.refusal(method, at(path), body),
        await cid.refusal(method, `/v1/teams/${nothing}${path}`, body),
      ]).toEqual([
        [403, "forbidden"],
        [403, "forbidden"],
      ]);
  });

  test("takes members, who are told by mail and may not manage it", async () => {
    const { status, body } = await owner.ask<rest.Member>("POST", at("/members"), { email: "cid@example.com" });
    expect([status, body.role]).toEqual([201, "member"]);
    expect(await owner.refusal("POST", at("/members"), { email: "cid@example.com" })).toEqual([400, "invalid_request"]);
    expect(await owner.refusal("POST", at("/members"), { email: "none@example.com" })).toEqual([404, "not_found"]);
    expect((await mailsTo(plane, "cid@example.com"))[0]!.subject).toBe("You were added to the team Lab 7");
    const member = await cid.in(team);
    expect(await member.refusal("PATCH", at(), { name: "Mine" })).toEqual([403, "forbidden"]);
    expect(await member.refusal("DELETE", at(`/members/${bob.auth.user_id}`))).toEqual([403, "forbidden"]);
    expect(await members()).toEqual([
      ["bob", "owner"],
      ["cid", "member"],
    ]);
  });

  test("a member sees and ends only the own keys", async () => {
    const member = await cid.in(team);
    const [theirs, own] = [await make(owner, { name: "owner's" }), await make(member, { name: "member's" })];
    const names = async (who: Human) =>
      (await who.ask<rest.ApiKey[]>("GET", "/v1/api-keys")).body.map(({ name }) => name);
    expect(await names(member)).toEqual(["member's"]);
    expect(await names(owner)).toEqual(["member's", "owner's"]);
    expect(await member.refusal("DELETE", `/v1/api-keys/${theirs.id}`)).toEqual([403, "forbidden"]);
    expect((await owner.ask("DELETE", `/v1/api-keys/${own.id}`)).status).toBe(204);
  });

  test("lets an administrator manage it, but not the owner; a role holds from the next request on", async () => {
    const member = await cid.in(team);
    expect((await member.ask("GET", at("/invitations"))).status).toBe(403);
    expect((await owner.ask("PATCH", at(`/members/${cid.auth.user_id}`), { role: "admin" })).status).toBe(204);
    expect((await member.ask("GET", at("/invitations"))).status).toBe(200);
    expect((await member.ask("PATCH", at(), { name: "Lab 8" })).status).toBe(204);
    expect(await member.refusal("DELETE", at(`/members/${bob.auth.user_id}`))).toEqual([403, "forbidden"]);
    expect(await member.refusal("DELETE", at())).toEqual([403, "forbidden"]);
    expect(await owner.refusal("POST", at("/leave"))).toEqual([403, "forbidden"]);
  });

  test("is handed over, and its former owner stays as administrator", async () => {
    expect((await owner.ask("POST", at("/transfer"), { user_id: cid.auth.user_id })).status).toBe(204);
    expect(await members()).toEqual([
      ["cid", "owner"],
      ["bob", "admin"],
    ]);
    const next = await cid.in(team);
    expect((await next.ask("POST", at("/transfer"), { user_id: bob.auth.user_id })).status).toBe(204);
  });

  test("a member who is removed is out at once: sessions and keys in the team end, those elsewhere stay", async () => {
    const member = await cid.in(team);
    const { key } = await make(member);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).status).toBe(200);
    expect((await member.ask("GET", "/v1/capsules")).status).toBe(200);
    expect((await owner.ask("DELETE", at(`/members/${cid.auth.user_id}`))).status).toBe(204);
    expect(await member.refusal("GET", "/v1/capsules")).toEqual([401, "unauthorized"]);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).code).toBe("unauthorized");
    expect((await cid.ask("GET", "/v1/capsules")).status).toBe(200);
  });

  test("invites by mail; only the invited address gets in, once", async () => {
    const { body } = await owner.ask<rest.Invitation>("POST", at("/invitations"), {
      email: "cid@example.com",
      role: "admin",
    });
    const token = await mailedToken(plane, "cid@example.com");
    expect(new URL(body.url!).searchParams.get("token")).toBe(token);
    expect(await ann.refusal("POST", "/v1/invitations/accept", { token })).toEqual([400, "invalid_token"]);
    const { body: joined } = await cid.ask<rest.Team>("POST", "/v1/invitations/accept", { token });
    expect(joined).toMatchObject({ id: team, role: "admin" });
    expect(await cid.refusal("POST", "/v1/invitations/accept", { token })).toEqual([400, "invalid_token"]);
  });

  test("somebody without an account signs up by invitation, active at once and in the team", async () => {
    await owner.ask("POST", at("/invitations"), { email: "dan@example.com" });
    const invitation = await mailedToken(plane, "dan@example.com");
    const { password } = await import("./support/people.ts");
    const sign = { email: "dan@example.com", name: "Dan", password, invitation };
    expect((await call(plane, "POST", "/v1/auth/signup", { ...sign, email: "eve@example.com" })).code).toBe(
      "invalid_token",
    );
    expect((await call(plane, "POST", "/v1/auth/signup", sign)).status).toBe(201);
    const { body: dan } = await call<rest.AuthResponse>(plane, "POST", "/v1/auth/login", {
      email: sign.email,
      password,
    });
    expect(dan.team_id).toBe(team);
  });

  test("an invitation that was taken back opens nothing", async () => {
    const { body } = await owner.ask<rest.Invitation>("POST", at("/invitations"), { email: "ann@example.com" });
    expect((await owner.ask("DELETE", at(`/invitations/${body.id}`))).status).toBe(204);
    const token = await mailedToken(plane, "ann@example.com");
    expect(await ann.refusal("POST", "/v1/invitations/accept", { token })).toEqual([400, "invalid_token"]);
    expect(await owner.refusal("DELETE", at(`/invitations/${body.id}`))).toEqual([404, "not_found"]);
  });

  test("that is deleted is gone with its sandboxes, keys and sessions; the installation's own stays", async () => {
    const { key } = await make(owner);
    const { body: capsule } = await byKey<rest.Capsule>(plane, key, "POST", "/v1/capsules", {});
    expect((await owner.ask("DELETE", at())).status).toBe(204);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).code).toBe("unauthorized");
    expect(await owner.refusal("GET", "/v1/capsules")).toEqual([401, "unauthorized"]);
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    for (;;) {
      const [row] = await sql`select state from sandboxes where id = ${capsule.id.slice(3)}`;
      if (row.state === "stopped") break;
      await Bun.sleep(10);
    }
    expect(await ann.refusal("DELETE", `/v1/teams/${ann.auth.team_id}`)).toEqual([403, "forbidden"]);
  });
});

describe("closing an account", () => {
  test("needs its address, and an heir for teams with others in them", async () => {
    const fay = await Human.join(plane, "Fay");
    const gus = await Human.join(plane, "Gus");
    await fay.ask("POST", `/v1/teams/${fay.auth.team_id}/members`, { email: "gus@example.com" });
    expect(await fay.refusal("DELETE", "/v1/me", { confirmation: "yes" })).toEqual([400, "invalid_request"]);
    const close = { confirmation: "FAY@example.com" };
    expect(await fay.refusal("DELETE", "/v1/me", close)).toEqual([409, "owns_team_with_members"]);
    await fay.ask("POST", `/v1/teams/${fay.auth.team_id}/transfer`, { user_id: gus.auth.user_id });
    const { key } = await make(fay);
    expect((await fay.ask("DELETE", "/v1/me", close)).status).toBe(204);
    expect(await fay.refusal("GET", "/v1/me")).toEqual([401, "unauthorized"]);
    expect((await byKey(plane, key, "GET", "/v1/capsules")).code).toBe("unauthorized");
    await Human.join(plane, "Fay"); // the address is free again
  });

  test("is refused to the last administrator while others are there", async () =>
    expect(await ann.refusal("DELETE", "/v1/me", { confirmation: "ann@example.com" })).toEqual([403, "forbidden"]));
});

test("a browser's WebSocket is let in by cookie from our own page only", async () => {
  const { id } = await plane.create();
  const cookie = `wrenn_session=${(await ann.again()).auth.token}`;
  const first = (origin: string) =>
    new Promise<string>((resolve) => {
      const url = `${plane.address.replace("http", "ws")}/v1/capsules/${id}/exec/stream`;
      const socket = new WebSocket(url, { headers: { cookie, origin } } as never);
      socket.onopen = () => socket.send(JSON.stringify({ type: "start", cmd: "/bin/echo", args: ["hi"] }));
      socket.onmessage = ({ data }) => {
        resolve(JSON.parse(String(data)).type);
        socket.close();
      };
    });
  expect(await first(plane.address)).toBe("start");
  expect(await first("http://8080-cl-x.localhost")).toBe("error");
});

test("a request with both a key and a session is the key's", async () => {
  const { key } = await make(bob);
  const both = { [headers.apiKey]: key, authorization: `Bearer ${ann.auth.token}` };
  expect((await call(plane, "GET", "/v1/capsules", undefined, both)).body).toEqual([]);
});
