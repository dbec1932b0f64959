import { afterAll, beforeAll, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { byKey, call, Human } from "./support/people.ts";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
let sql: SQL;
beforeAll(async () => {
  plane = await Plane.start();
  sql = new SQL(plane.options.databaseUrl);
});
afterAll(async () => {
  await sql.close();
  await plane[Symbol.asyncDispose]();
});

const own = { [headers.csrf]: "1" };
const link = async (): Promise<string> => {
  const { body, status } = await byKey<rest.SignInLink>(plane, apiKey, "POST", "/v1/auth/links");
  expect(status).toBe(201);
  expect(new URL(body.url).pathname).toBe("/sign-in");
  return new URLSearchParams(new URL(body.url).hash.slice(1)).get("once")!;
};
const open = (token: string) => call(plane, "POST", "/v1/auth/link", { token }, own);
/** The cookie that an answer sets, as the next request sends it. */
const cookieOf = (given: Headers): string => given.get("set-cookie")!.split(";")[0]!;
const list = (cookie: string) => call(plane, "GET", "/v1/capsules", undefined, { cookie });

test("a link signs a browser in as its key's team, with a cookie that no script reads, and opens once", async () => {
  const token = await link();
  const opened = await open(token);
  expect([opened.status, opened.body]).toEqual([204, undefined]);
  expect(opened.headers.get("set-cookie")).toMatch(/^wrenn_session=wrn_[0-9a-f]{32};.*HttpOnly; SameSite=Lax/);
  expect(opened.headers.get("set-cookie")).not.toContain(apiKey);
  expect((await list(cookieOf(opened.headers))).status).toBe(200);
  expect((await open(token)).code).toBe("invalid_token");
});

test("a link opens for one of many that try at once", async () => {
  const token = await link();
  const all = await Promise.all(Array.from({ length: 8 }, () => open(token)));
  expect(all.filter(({ status }) => status === 204).length).toBe(1);
});

test("a link that is too old opens nothing", async () => {
  const token = await link();
  await sql`update sign_in_links set expires_at = now() - interval '1 second'`;
  expect((await open(token)).code).toBe("invalid_token");
});

test("what comes by the cookie changes nothing without the header of our own pages", async () => {
  const cookie = cookieOf((await open(await link())).headers);
  const { id } = await plane.create();
  expect((await call(plane, "DELETE", `/v1/capsules/${id}`, undefined, { cookie })).code).toBe("csrf_required");
  expect((await call(plane, "DELETE", `/v1/capsules/${id}`, undefined, { cookie, ...own })).status).toBe(204);
  for (const path of ["/v1/auth/link", "/v1/auth/key"])
    expect((await call(plane, "POST", path, { token: "x", key: "x" })).code).toBe("csrf_required");
});

test("signing out ends the browser's key, and leaves one that was typed in", async () => {
  const byLink = cookieOf((await open(await link())).headers);
  const typed = await call(plane, "POST", "/v1/auth/key", { key: apiKey }, own);
  expect(cookieOf(typed.headers)).toBe(`wrenn_session=${apiKey}`);
  for (const cookie of [byLink, cookieOf(typed.headers)]) {
    const left = await call(plane, "DELETE", "/v1/auth/key", undefined, { cookie, ...own });
    expect(left.headers.get("set-cookie")).toContain("Max-Age=0");
  }
  expect((await list(byLink)).code).toBe("unauthorized");
  expect((await byKey(plane, apiKey, "GET", "/v1/capsules")).status).toBe(200);
});

test("a key that opens nothing is kept in no cookie", async () => {
  const refused = await call(plane, "POST", "/v1/auth/key", { key: `wrn_${"0".repeat(32)}` }, own);
  expect([refused.code, refused.headers.get("set-cookie")]).toEqual(["unauthorized", null]);
});

test("people make no links, and a key with scopes makes none either", async () => {
  const ann = await Human.join(plane, "Ann");
  expect((await ann.ask("POST", "/v1/auth/links")).code).toBe("forbidden");
  const { body } = await ann.ask<rest.NewApiKey>("POST", "/v1/api-keys", { scopes: ["sandboxes:read"] });
  expect((await byKey(plane, body.key, "POST", "/v1/auth/links")).code).toBe("forbidden");
});
