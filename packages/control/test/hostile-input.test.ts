import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type rest, WrennError } from "@wrenn/contract";
import { SQL } from "bun";
import { Document } from "./spec/document.ts";
import { Human } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

const plane = await Plane.start();
const document = await Document.of(plane.address);
let bearer: Record<string, string>;
beforeAll(async () => {
  bearer = { authorization: `Bearer ${(await Human.join(plane, "Ann")).auth.token}` };
});
afterAll(() => plane[Symbol.asyncDispose]());

/** What would end the session that asks, shut the door for the tests after it, or take the only host out. */
const excluded =
  /logout|\/me$|\/me\/(password|mfa|sessions)|admin\/(settings|users)|\/hosts\/|\/agent\/|auth\/(login|signup)/;
const noId = `cl-${"0".repeat(25)}`;
const concrete = (path: string) => path.replace(/\/capsules\/\{id\}/, `/capsules/${noId}`).replace(/\{\w+\}/g, "none");

const withBody = document
  .operations()
  .filter(([, path, { requestBody }]) => requestBody?.content?.["application/json"] && !excluded.test(path));

function send(method: string, path: string, body: BodyInit, more: Record<string, string> = {}): Promise<Response> {
  const headers = { ...bearer, "content-type": "application/json", ...more };
  return fetch(plane.address + path, { method, headers, body, redirect: "manual" });
}

/** What is wrong with an answer to something hostile: a failure of the server's own, or what the document does not say. */
async function wrong(method: string, path: string, answer: Response): Promise<string | undefined> {
  if (answer.status === 500) return await answer.text();
  return await document.judge(method, path, answer);
}

describe("bodies that are too much", () => {
  const large = `{"x":"${"a".repeat(10 * 1024 * 1024)}"}`;
  const deep = "[".repeat(200_000) + "]".repeat(200_000);
  const deepField = `{"metadata":${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}}`;
  for (const [method, path] of withBody)
    test(`${method} ${path}: 10 MB of JSON are 413; deep nesting and halves of JSON are refused, never a failure`, async () => {
      const at = concrete(path);
      const answer = await send(method, at, large);
      expect([answer.status, WrennError.fromBody(await answer.json())?.code]).toEqual([413, "too_large"]);
      for (const body of [
        deep,
        deepField,
        '{"a":',
        "\0",
        "nul",
        '{"__proto__":{"admin":true}}',
        '"text"',
        "[]",
        "null",
      ])
        expect(await wrong(method, path, await send(method, at, body))).toBeUndefined();
    }, 120_000);
});

const types: readonly unknown[] = [
  null,
  true,
  -1,
  1.5,
  1e308,
  "",
  "x",
  [],
  [1],
  {},
  { a: 1 },
  "\u0000",
  "x".repeat(70_000),
];

/** Text that has broken other systems: quotes and comments of SQL, line ends of HTTP, paths, templates, odd Unicode. */
const corpus: readonly string[] = [
  "'; drop table sandboxes; --",
  "' or '1'='1",
  "1); delete from teams; --",
  "\\'; select pg_sleep(10); --",
  "x' union select key_hash from api_keys --",
  "%' or metadata::text like '%",
  "a\r\nx-injected: yes",
  "a%0d%0ax-injected:%20yes",
  "a\nset-cookie: s=1",
  "../../../../etc/passwd",
  "..%2f..%2fv1%2fadmin",
  "$" + "{7*7}{{7*7}}<script>alert(1)</script>",
  "\ud800",
  "\u202egnp.exe",
  "𝕿𝖊𝖘𝖙\u0301",
  "$(touch /tmp/injected)`id`",
];

describe("fields of wrong types and hostile text", () => {
  for (const [method, path, { requestBody }] of withBody)
    test(`${method} ${path}: is answered as documented whatever a field holds`, async () => {
      const media = requestBody!.content!["application/json"]!;
      const base = media.example as Record<string, unknown>;
      const at = concrete(path);
      const fields = typeof base === "object" && base !== null ? Object.keys(base) : [];
      const found: string[] = [];
      for (const field of [...fields, "unknown_field"])
        for (const value of [...types, ...corpus]) {
          const answer = await send(method, at, JSON.stringify({ ...base, [field]: value }));
          const what = await wrong(method, path, answer);
          if (what) found.push(`${field}=${JSON.stringify(value)?.slice(0, 60)}: ${what.slice(0, 300)}`);
          expect(answer.headers.get("x-injected")).toBeNull();
        }
      expect(found).toEqual([]);
    }, 120_000);
});

describe("hostile text in paths, queries and headers", () => {
  const reads = document
    .operations()
    .filter(([method, path]) => method === "GET" && !/stream|\/loads|logout|\/agent\//.test(path));
  for (const [method, path, { parameters = [] }] of reads)
    test(`${method} ${path}`, async () => {
      const names = parameters.filter((one) => one.in === "query" && one.name !== "follow").map(({ name }) => name);
      const found: string[] = [];
      for (const text of corpus) {
        const encoded = encodeURIComponent(text.toWellFormed());
        const targets = [
          ...(path.includes("{") ? [path.replace(/\{\w+\}/g, encoded)] : []),
          ...names.map((name) => `${concrete(path)}?${name}=${encoded}`),
        ];
        for (const target of targets) {
          const answer = await fetch(plane.address + target, {
            ...{ headers: { ...bearer, "x-request-id": encoded, "if-none-match": encoded }, redirect: "manual" },
          });
          expect(answer.headers.get("x-injected")).toBeNull();
          expect(answer.headers.get("set-cookie") ?? "").not.toContain("s=1");
          if (answer.status === 500) found.push(`${target}: ${answer.status}`);
          await answer.body?.cancel();
        }
      }
      expect(found).toEqual([]);
    }, 120_000);

  test("after all of it every table is there, no team is gone, and the server works as before", async () => {
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const [{ teams }] = await sql`select count(*)::int as teams from teams where deleted_at is null`;
    expect(teams).toBeGreaterThanOrEqual(1);
    expect(await Bun.file("/tmp/injected").exists()).toBe(false);
    expect((await plane.create()).status).toBe("running");
    expect(await plane.json<rest.Capsule[]>(200, "GET", "/v1/capsules")).not.toEqual([]);
  });
});
