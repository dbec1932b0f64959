import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { headers, randomId, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { pino } from "pino";
import { compile } from "../../src/config.ts";
import { e2bRoutes } from "../../src/edges/e2b/index.ts";
import { newApp } from "../../src/edges/endpoint.ts";
import type { Services } from "../../src/services/index.ts";
import { hashKey } from "../../src/store/keys.ts";
import { apiKey, Plane } from "../support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

/** The paths of the dialect, as the server itself has them: a route that is added is tried without a word here. */
function table(): [method: string, path: string][] {
  const app = newApp();
  // Nothing is called, so that the routes need no services to stand on.
  e2bRoutes(app, {} as Services, {
    log: pino({ level: "silent" }),
    config: compile({ databaseUrl: "postgres://x/x" }),
  });
  return app.routes.filter(({ method }) => method !== "ALL").map(({ method, path }) => [method, path]);
}

const routes = table();
/** Opened by a link or a token of their own, which tests of theirs try. */
const isOpen = (path: string) => path.startsWith("/build-files/") || path.startsWith("/volumecontent/");
const guarded = routes.filter(([, path]) => !isOpen(path));
const others = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

let plane: Plane;
let sql: SQL;
/** What the local team has, by the name that paths give it. */
let mine: Record<string, string>;
/** Things of the same shapes that nobody has. */
const nowhere: Record<string, string> = {
  ...{ id: "0".repeat(25), template: "nothing", build: randomId(), alias: "nothing", hash: "f".repeat(64) },
  ...{ secret: "nothing", volume: `vol_${"z".repeat(25)}` },
};
/** Headers of each caller that nobody lets in. */
const strangers: Record<string, Record<string, string>> = {
  "no key": {},
  "an empty key": { [headers.apiKey]: "" },
  "a key of another shape": { [headers.apiKey]: "e2b_' or 1=1 --" },
  "an unknown key": { [headers.apiKey]: `e2b_${"d".repeat(32)}` },
  "a key as the access token of the guest's agent": { [headers.accessToken]: apiKey },
  "a forged session": { authorization: `Bearer wrs_${"x".repeat(43)}` },
};

beforeAll(async () => {
  plane = await Plane.start();
  sql = new SQL(plane.options.databaseUrl, { max: 1 });
  const box = await plane.json<rest.e2b.Sandbox>(201, "POST", "/v2/sandboxes", {
    ...{ templateID: "minimal", network: { allowPublicTraffic: false } },
  });
  const built = await plane.json<{ templateID: string; buildID: string }>(202, "POST", "/v3/templates", {
    name: "mine",
  });
  const { secretID } = await plane.json<rest.e2b.Secret>(201, "POST", "/secrets", { name: "mine", value: "hunter2" });
  const volume = await plane.json<rest.e2b.VolumeAndToken>(201, "POST", "/volumes", { name: "mine" });
  mine = {
    ...{ id: box.sandboxID, template: built.templateID, build: built.buildID, alias: "mine", hash: "e".repeat(64) },
    ...{ secret: secretID, volume: volume.volumeID },
  };
  strangers["a sandbox's own token as a key"] = { [headers.apiKey]: box.envdAccessToken };
  strangers["a sandbox's traffic token as a key"] = { [headers.apiKey]: box.trafficAccessToken! };
  strangers["a volume's token as a key"] = { [headers.apiKey]: volume.token };
  strangers["a key that has ended"] = { [headers.apiKey]: await keyOf("local", { expires: "-1 hour" }) };
  const revoked = await keyOf("local");
  await sql`delete from api_keys where key_hash = ${hashKey(revoked)}`;
  strangers["a key that was revoked"] = { [headers.apiKey]: revoked };
});
afterAll(async () => {
  await sql?.close();
  await plane[Symbol.asyncDispose]();
});

/** A new key of the local team, or of one that has nothing to do with it. */
async function keyOf(team: "local" | "other", { expires = "1 hour", scopes = null as string | null } = {}) {
  const key = `wrn_${crypto.randomUUID().replaceAll("-", "")}`;
  if (team === "other") await plane.otherKey();
  const [{ id }] = await sql`select team_id as id from api_keys where key_hash = ${hashKey(apiKey)}`;
  await sql`insert into api_keys (id, team_id, name, key_hash, key_prefix, scopes, expires_at) values
    (${`key-${randomId()}`}, ${team === "other" ? "team-other" : id}, 'test', ${hashKey(key)}, 'wrn_', ${scopes},
    now() + ${expires}::interval)`;
  return key;
}

/** A path with things in the places of its parameters. */
const at = (path: string, things: Record<string, string>) => path.replace(/:(\w+)/g, (_, name) => things[name]!);

/** A body that a route reads without complaint, so that what answers is the thing it names. */
function bodyOf(method: string, path: string, things: Record<string, string>): object | undefined {
  if (method === "GET") return undefined;
  const { alias: name } = things;
  const bodies: Record<string, object> = {
    "/sandboxes": { templateID: "minimal" },
    "/v2/sandboxes": { templateID: "minimal" },
    "/sandboxes/:id/timeout": { timeout: 1 },
    "/v3/templates": { name: "new" },
    "/v2/templates/:template/builds/:build": { fromTemplate: "minimal" },
    "/templates/:template": { public: true },
    "/v2/templates/:template": { public: true },
    "/templates/tags": { target: name, name, tags: ["stolen"] },
    "/secrets": { name: "new", value: "x" },
    "/secrets/:secret": { value: "stolen" },
    "/volumes": { name: "new" },
  };
  return bodies[path] ?? {};
}

async function ask(method: string, path: string, things: Record<string, string>, given: Record<string, string>) {
  const body = bodyOf(method, path, things);
  const answer = await fetch(plane.address + at(path, things), {
    method,
    headers: { ...given, ...(body && { "content-type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  return { status: answer.status, text };
}

/** An answer without the names of what was asked for. */
const nameless = ({ status, text }: { status: number; text: string }, things: Record<string, string>) => ({
  status,
  text: Object.values(things).reduce((rest, name) => rest.replaceAll(name, "…"), text),
});

/** What a thief could have changed. */
async function belongings() {
  const [box, secret, volumes] = await Promise.all([
    plane.json<rest.e2b.SandboxDetail>(200, "GET", `/sandboxes/${mine.id}`),
    plane.json<rest.e2b.Secret>(200, "GET", `/secrets/${mine.secret}`),
    plane.json<rest.e2b.Volume[]>(200, "GET", "/volumes"),
  ]);
  const rows = await sql`select
    (select count(*)::int from sandboxes) as boxes, (select count(*)::int from snapshots) as snapshots,
    (select status from builds where id = ${mine.build}) as build`;
  return { box, secret, volumes, rows };
}

test("the table has the dialect's paths", () => {
  const known = guarded.map((route) => route.join(" "));
  expect(known).toContain("POST /v2/sandboxes/:id/connect");
  expect(known).toContain("GET /templates/:template/builds/:build/status");
  expect(known.length).toBeGreaterThan(40);
});

describe("who shows no valid key is told so, the same for what there is and what there is not, and changes nothing:", () => {
  for (const [method, path] of guarded)
    test(`${method} ${path}`, async () => {
      const before = await belongings();
      for (const [caller, given] of Object.entries(strangers)) {
        const found = await ask(method, path, mine, given);
        expect([caller, found.status, JSON.parse(found.text)]).toEqual([
          ...[caller, 401],
          { code: 401, message: expect.any(String) },
        ]);
        expect([caller, await ask(method, path, nowhere, given)]).toEqual([caller, found]);
      }
      expect(await belongings()).toEqual(before);
    });
});

describe("what another team has looks to a valid key like what nobody has, and is not changed:", () => {
  for (const [method, path] of guarded.filter(([, path]) => path.includes(":") || path === "/templates/tags"))
    test(`${method} ${path}`, async () => {
      const given = { [headers.apiKey]: await keyOf("other") };
      const before = await belongings();
      const [found, absent] = [await ask(method, path, mine, given), await ask(method, path, nowhere, given)];
      expect(nameless(found, mine)).toEqual(nameless(absent, nowhere));
      expect([found.status, JSON.parse(found.text)]).toEqual([404, { code: 404, message: expect.any(String) }]);
      expect(await belongings()).toEqual(before);
    });

  for (const [method, path] of guarded.filter(([method, path]) => method === "GET" && !path.includes(":")))
    test(`${method} ${path} names none of it`, async () => {
      const query = path === "/sandboxes/metrics" ? `?sandbox_ids=${mine.id}` : "";
      const { status, text } = await ask(method, path + query, mine, { [headers.apiKey]: await keyOf("other") });
      expect(status).toBe(200);
      for (const thing of Object.values(mine)) expect(text).not.toContain(`"${thing}"`);
    });
});

describe("a key that was made for something else is told what it lacks, and changes nothing:", () => {
  for (const [method, path] of guarded)
    test(`${method} ${path}`, async () => {
      const given = { [headers.apiKey]: await keyOf("local", { scopes: "channels:read" }) };
      const before = await belongings();
      const { status, text } = await ask(method, path, mine, given);
      expect([status, JSON.parse(text)]).toEqual([
        403,
        { code: 403, message: expect.stringContaining("not made for") },
      ]);
      expect(await belongings()).toEqual(before);
    });
});

describe("a method that a path does not have is refused in the dialect's words, after the key was looked at:", () => {
  const paths = [...new Set(guarded.map(([, path]) => path)), "/sandboxes/:id/nothing", "/v2/sandboxes/:id"];
  for (const path of paths)
    test(path, async () => {
      const before = await belongings();
      for (const method of others.filter((one) => !isServed(one, path))) {
        for (const [status, given] of [
          [401, {}],
          [404, { [headers.apiKey]: apiKey }],
        ] as const) {
          const found = await ask(method, path, mine, given);
          expect([method, found.status, JSON.parse(found.text)]).toEqual([
            ...[method, status],
            { code: status, message: expect.any(String) },
          ]);
        }
      }
      expect(await belongings()).toEqual(before);
    });
});

/** Whether a request with this method and path finds a route, be it one whose parameter takes the place of a word. */
function isServed(method: string, path: string): boolean {
  const parts = path.split("/");
  return routes.some(([how, where]) => {
    const known = where.split("/");
    const fits = (part: string, i: number) => part.startsWith(":") || part === parts[i] || parts[i]!.startsWith(":");
    return how === method && known.length === parts.length && known.every(fits);
  });
}
