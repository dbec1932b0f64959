import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { codes, headers, httpStatus, WrennError } from "@wrenn/contract";
import { Plane } from "./support/plane.ts";

let plane: Plane;
let mine: string;
let other: string;
beforeAll(async () => {
  plane = await Plane.start();
  mine = (await plane.create()).id;
  other = await plane.otherKey();
});
afterAll(() => plane[Symbol.asyncDispose]());

const form = (): FormData => {
  const body = new FormData();
  body.set("path", "/tmp/x");
  body.set("file", new Blob(["x"]), "x");
  return body;
};

/** Every route that names a sandbox, with a body it accepts. */
const routes: readonly [method: string, path: string, body?: () => BodyInit][] = [
  ["GET", ""],
  ["DELETE", ""],
  ["POST", "/pause"],
  ["POST", "/resume"],
  ["POST", "/ping"],
  ["POST", "/timeout", () => '{"timeout_sec":1}'],
  ["POST", "/exec", () => '{"cmd":"/bin/true"}'],
  ["POST", "/checkpoint", () => "{}"],
  ["POST", "/fork", () => "{}"],
  ["POST", "/rollback", () => '{"snapshot":"x"}'],
  ["POST", "/ports/8080", () => "{}"],
  ["GET", "/processes"],
  ["DELETE", "/processes/1"],
  ["POST", "/files/write", form],
  ["POST", "/files/stream/write", form],
  ["POST", "/files/read", () => '{"path":"/etc/hostname"}'],
  ["POST", "/files/stream/read", () => '{"path":"/etc/hostname"}'],
  ["POST", "/files/list", () => '{"path":"/"}'],
  ["POST", "/files/mkdir", () => '{"path":"/tmp/never"}'],
  ["POST", "/files/remove", () => '{"path":"/tmp/never"}'],
  ["GET", "/agent/health"],
];

async function ask(method: string, path: string, key: string | undefined, body?: () => BodyInit) {
  const answer = await fetch(plane.address + path, {
    method,
    headers: key === undefined ? {} : { [headers.apiKey]: key },
    ...(body && { body: body() }),
  });
  const error = WrennError.fromBody(await answer.json());
  expect(error?.remedy).toBeTruthy();
  expect(answer.headers.get(headers.requestId)).toBeTruthy();
  return [answer.status, error?.code];
}

const key = `wrn_${"a".repeat(32)}`;
for (const [method, path, body] of routes)
  describe(`${method} /v1/capsules/{id}${path}`, () => {
    const at = (id: string) => `/v1/capsules/${id}${path}`;
    // Those for a sandbox: what hosts have is asked for at any time.
    const calls = () => plane.host.calls.filter((call) => call.includes(" ")).length + plane.host.proxied;
    for (const [title, want, run] of [
      ["without a key", [401, "unauthorized"], () => ask(method, at(mine), undefined, body)],
      ["with an unknown key", [401, "unauthorized"], () => ask(method, at(mine), `wrn_${"c".repeat(32)}`, body)],
      ["with an id of a wrong shape", [400, "invalid_request"], () => ask(method, at("cl-nope"), key, body)],
      ["with an id that does not exist", [404, "not_found"], () => ask(method, at(`cl-${"0".repeat(25)}`), key, body)],
      ["with another team's key", [404, "not_found"], () => ask(method, at(mine), other, body)],
    ] as const)
      test(`${title} is ${want.join(" ")} and reaches no host`, async () => {
        const before = calls();
        expect(await run()).toEqual([...want]);
        expect(calls()).toBe(before);
      });
  });

test("a key opens the same team with the prefix that E2B's SDK demands", async () => {
  expect(
    (await plane.fetch("GET", `/v1/capsules/${mine}`, undefined, { [headers.apiKey]: key.replace("wrn_", "e2b_") }))
      .status,
  ).toBe(200);
});

test("another team's list is its own", async () => {
  const answer = await plane.fetch("GET", "/v1/capsules", undefined, { [headers.apiKey]: other });
  expect(await answer.json()).toEqual([]);
});

for (const path of ["/v1/capsules", "/v1/snapshots", "/v1/snapshots/minimal", "/v1/events/stream", "/v1/nothing"])
  test(`${path} needs a key`, async () => expect(await ask("GET", path, undefined)).toEqual([401, "unauthorized"]));

test("a path that does not exist is 404, and a body that is too large 413", async () => {
  expect(await ask("GET", "/v1/nothing", key)).toEqual([404, "not_found"]);
  expect(await ask("GET", "/nothing", undefined)).toEqual([404, "not_found"]);
  expect(await ask("POST", "/v1/capsules", key, () => " ".repeat(5 * 1024 * 1024))).toEqual([413, "too_large"]);
});

describe("every error code", () => {
  for (const code of codes)
    test(`${code} of a host is ${httpStatus[code]} ${code} for the client, with its remedy`, async () => {
      plane.host.script("ping", `1*error(${code})->off`);
      const answer = await plane.fetch("POST", `/v1/capsules/${mine}/ping`);
      const { error } = (await answer.json()) as { error: { code: string; remedy: string } };
      expect([answer.status, error.code, error.remedy]).toEqual([httpStatus[code], code, "Remove the failpoint."]);
    });
});

test("a request id is taken over when it is harmless, and made anew when it is not", async () => {
  const given = await plane.fetch("GET", "/health", undefined, { [headers.requestId]: "trace-7" });
  expect(given.headers.get(headers.requestId)).toBe("trace-7");
  const forged = await plane.fetch("GET", "/health", undefined, { [headers.requestId]: 'x" "level":60' });
  expect(forged.headers.get(headers.requestId)).toMatch(/^[0-9a-f-]{36}$/);
});

test("health needs no key", async () => {
  expect(await (await fetch(`${plane.address}/health`)).json()).toEqual({ status: "ok", version: "0.1.0" });
});

type Document = {
  paths: Record<string, Record<string, { responses: Record<string, { description: string }>; security: unknown[] }>>;
  components: { schemas: object };
};

describe("OpenAPI", () => {
  const load = async () => (await (await fetch(`${plane.address}/openapi.json`)).json()) as Document;

  test("names every route of this file, with the errors each can give", async () => {
    const { paths } = await load();
    for (const [method, path] of routes) {
      const documented = path
        .replace("/processes/1", "/processes/{selector}")
        .replace("/ports/8080", "/ports/{port}")
        .replace("/agent/health", "/agent/{path}");
      const operation = paths[`/v1/capsules/{id}${documented}`]?.[method.toLowerCase()];
      expect(Object.keys(operation?.responses ?? {})).toEqual(expect.arrayContaining(["400", "401", "404"]));
      expect(operation!.security).toEqual([{ "X-API-Key": [] }, { session: [] }]);
    }
    for (const path of ["/exec/stream", "/pty", "/processes/{selector}/stream"])
      expect(paths[`/v1/capsules/{id}${path}`]?.get?.responses["101"]).toBeDefined();
  });

  test("documents every error code under its own status", async () => {
    const { paths } = await load();
    const found = new Set<string>();
    for (const operation of Object.values(paths).flatMap((path) => Object.values(path)))
      for (const [status, { description }] of Object.entries(operation.responses))
        for (const [, code] of description.startsWith("Error code") ? description.matchAll(/`(\w+)`/g) : []) {
          found.add(code!);
          expect(httpStatus[code as keyof typeof httpStatus]).toBe(Number(status) as never);
        }
    expect([...found].sort()).toEqual([...codes].sort() as string[]);
  });

  test("the YAML says the same as the JSON", async () => {
    const yaml = await (await fetch(`${plane.address}/openapi.yaml`)).text();
    expect(Bun.YAML.parse(yaml)).toEqual(await load());
  });

  test("the page loads nothing from elsewhere and has no script of its own", async () => {
    const answer = await fetch(`${plane.address}/docs`);
    const page = await answer.text();
    expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'; script-src 'self';");
    expect(page).not.toContain("//");
    for (const [, asset] of page.matchAll(/(?:src|href)="([^"]+)"/g))
      expect((await fetch(plane.address + asset)).status).toBe(200);
  });
});
