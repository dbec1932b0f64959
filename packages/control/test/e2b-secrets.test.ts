import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { sealedFor } from "../src/services/e2b/secrets.ts";
import { Box } from "../src/services/people/secrets.ts";
import { Plane } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

const encryptionKey = "7".repeat(64);
let plane: Plane;
let sql: SQL;
beforeAll(async () => {
  plane = await Plane.start({}, { encryptionKey });
  sql = new SQL(plane.options.databaseUrl, { max: 1 });
});
afterAll(async () => {
  await sql.close();
  await plane[Symbol.asyncDispose]();
});

type Secret = rest.e2b.Secret;
const make = (name: string, value = "v", metadata?: Record<string, string>) =>
  plane.json<Secret>(201, "POST", "/secrets", { name, value, metadata });
const refusal = async (method: string, path: string, body?: unknown, more?: Record<string, string>) => {
  const answer = await plane.fetch(method, path, body, more);
  return { status: answer.status, ...((await answer.json()) as rest.e2b.ErrorBody) };
};
const versions = (id: string): Promise<{ version: number; value: string }[]> =>
  sql`select version::int, value from secret_versions where secret_id = ${id} order by version`;

test("a secret is found by id and by name in any letters, and its value is in no answer", async () => {
  const answer = await plane.fetch("POST", "/secrets", { name: "Api_Key", value: "hunter2", metadata: { for: "web" } });
  const text = await answer.text();
  expect([answer.status, text.includes("hunter2")]).toEqual([201, false]);
  const made = JSON.parse(text) as Secret;
  expect(made).toEqual({
    secretID: expect.stringMatching(/^sec_[a-z0-9]{25}$/),
    name: "api_key",
    currentVersion: 1,
    metadata: { for: "web" },
    createdAt: expect.any(String),
    updatedAt: expect.any(String),
  });
  for (const ref of [made.secretID, "api_key", "API_KEY"])
    expect(await plane.json<Secret>(200, "GET", `/secrets/${ref}`)).toEqual(made);
  expect(await (await plane.fetch("GET", "/secrets")).text()).not.toContain("hunter2");
});

test("each value is a version of its own, encrypted with the installation's key for this secret alone", async () => {
  const { secretID: id } = await make("turning", "first", { a: "b" });
  const second = await plane.json<Secret>(200, "POST", "/secrets/turning", { value: "second" });
  expect(second).toMatchObject({ secretID: id, currentVersion: 2, metadata: { a: "b" } });
  const third = await plane.json<Secret>(200, "POST", `/secrets/${id}`, { value: "third", metadata: {} });
  expect(third).toMatchObject({ currentVersion: 3, metadata: {} });
  const rows = await versions(id);
  const box = new Box(Buffer.from(encryptionKey, "hex"));
  expect(rows.map(({ value }) => box.open(value, sealedFor(id)))).toEqual(["first", "second", "third"]);
  expect(rows.map(({ value }) => box.open(value, sealedFor("sec_other")))).toEqual([undefined, undefined, undefined]);
  expect(rows.some(({ value }) => /first|second|third/.test(value))).toBe(false);
});

test("changes that come at once each become a version", async () => {
  const { secretID: id } = await make("busy");
  const made = await Promise.all(
    Array.from({ length: 8 }, (_, i) => plane.json<Secret>(200, "POST", "/secrets/busy", { value: `v${i}` })),
  );
  expect(made.map((one) => one.currentVersion).sort()).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
  expect((await versions(id)).map(({ version }) => version)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("versions of long ago go", async () => {
  const { secretID: id } = await make("old");
  await sql`update secrets set current_version = 100 where id = ${id}`;
  await plane.json<Secret>(200, "POST", "/secrets/old", { value: "new" });
  expect((await versions(id)).map(({ version }) => version)).toEqual([101]);
});

test("a deletion takes every version, and frees the name", async () => {
  const { secretID: id } = await make("brief");
  expect((await plane.fetch("DELETE", "/secrets/brief")).status).toBe(204);
  expect(await versions(id)).toHaveLength(0);
  for (const ref of ["brief", id]) {
    expect(await refusal("GET", `/secrets/${ref}`)).toMatchObject({ status: 404, code: 404 });
    expect(await refusal("POST", `/secrets/${ref}`, { value: "x" })).toMatchObject({ code: 404 });
    expect(await refusal("DELETE", `/secrets/${ref}`)).toMatchObject({ code: 404 });
  }
  expect((await make("brief")).secretID).not.toBe(id);
});

test("pages lead to every secret once, newest first", async () => {
  await sql`delete from secrets`;
  for (const name of ["one", "two", "three"]) await make(name);
  // Made in the same millisecond: the id decides.
  await sql`update secrets set created_at = '2026-01-01' where name in ('one', 'two')`;
  const seen: string[] = [];
  for (let token: string | null = ""; token !== null; ) {
    const answer = await plane.fetch("GET", `/secrets?limit=1${token && `&nextToken=${token}`}`);
    seen.push(...((await answer.json()) as Secret[]).map(({ name }) => name));
    token = answer.headers.get("x-next-token");
  }
  expect(seen[0]).toBe("three");
  expect(seen.toSorted()).toEqual(["one", "three", "two"]);
  expect(await refusal("GET", "/secrets?nextToken=bm9uc2Vuc2U")).toMatchObject({ code: 400 });
});

test("another team sees none of them, and may use the same names", async () => {
  const { secretID: id } = await make("shared");
  const other = { [headers.apiKey]: await plane.otherKey() };
  for (const ref of ["shared", id])
    for (const method of ["GET", "DELETE"])
      expect(await refusal(method, `/secrets/${ref}`, undefined, other)).toMatchObject({ code: 404 });
  expect(await (await plane.fetch("GET", "/secrets", undefined, other)).json()).toEqual([]);
  expect((await plane.fetch("POST", "/secrets", { name: "shared", value: "x" }, other)).status).toBe(201);
  expect(await plane.json<Secret>(200, "GET", `/secrets/${id}`)).toMatchObject({ currentVersion: 1 });
});

test("a name that is taken, whatever its letters, is 409 and changes nothing", async () => {
  const made = await make("taken");
  expect(await refusal("POST", "/secrets", { name: "TAKEN", value: "x" })).toMatchObject({ status: 409, code: 409 });
  expect(await plane.json<Secret>(200, "GET", "/secrets/taken")).toEqual(made);
});

const many = Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, "v"]));
const heavy = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`k${i}`, "v".repeat(1000)]));
for (const [what, body] of [
  ["no name", { value: "x" }],
  ["a blank in the name", { name: "a b", value: "x" }],
  ["the name of an id", { name: "SEC_x", value: "x" }],
  ["a long name", { name: "n".repeat(129), value: "x" }],
  ["no value", { name: "none" }],
  ["an empty value", { name: "none", value: "" }],
  ["a number as metadata", { name: "none", value: "x", metadata: { a: 1 } }],
  ["too many entries", { name: "none", value: "x", metadata: many }],
  ["too long a key", { name: "none", value: "x", metadata: { ["ü".repeat(65)]: "" } }],
  ["too long an entry", { name: "none", value: "x", metadata: { a: "v".repeat(1025) } }],
  ["too much in all", { name: "none", value: "x", metadata: heavy }],
] as const)
  test(`${what} is refused`, async () => {
    expect(await refusal("POST", "/secrets", body)).toMatchObject({ status: 400, code: 400 });
    expect(await refusal("GET", "/secrets/none")).toMatchObject({ code: 404 });
  });
