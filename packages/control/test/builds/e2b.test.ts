import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { headers, randomId, type rest } from "@wrenn/contract";
import { idOf, uuidOf } from "../../src/services/e2b/names.ts";
import { Plane } from "../support/plane.ts";

/** What the E2B dialect tells of templates beside what its SDKs ask; its command line does. */

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

type Announced = { templateID: string; buildID: string };
type Status = { status: string };
type Logs = { logs: { timestamp: string; level: string; message: string; step: string }[] };

let plane: Plane;
let made: Announced;
beforeAll(async () => {
  plane = await Plane.start();
  made = await plane.json<Announced>(202, "POST", "/v3/templates", { name: "told", cpuCount: 1, memoryMB: 512 });
  const user = (await Bun.$`id -un`.text()).trim(); // Bun's userInfo() knows it by USER alone
  const plan = { fromTemplate: "minimal", steps: [{ type: "RUN", args: ["echo heard; exit 3", user] }] };
  await plane.json(202, "POST", `/v2/templates/${made.templateID}/builds/${made.buildID}`, plan);
  const path = `/templates/${made.templateID}/builds/${made.buildID}/status`;
  while ((await plane.json<Status>(200, "GET", path)).status !== "error") await Bun.sleep(20);
});
afterAll(() => plane[Symbol.asyncDispose]());

const logs = (query = "") =>
  plane.json<Logs>(200, "GET", `/templates/${made.templateID}/builds/${made.buildID}/logs${query}`);
const messages = async (query: string) => (await logs(query)).logs.map(({ message }) => message);

test("a template is told of with its builds, by id and by name", async () => {
  for (const name of [made.templateID, "told", "told:default"])
    expect(await plane.json<object>(200, "GET", `/templates/${name}`)).toMatchObject({
      ...{ templateID: made.templateID, names: ["told"], public: false, spawnCount: 0, lastSpawnedAt: null },
      builds: [{ buildID: made.buildID, status: "error", cpuCount: 1, memoryMB: 512, finishedAt: expect.any(String) }],
    });
});

const title = "a build's log is told from either end, from a time on, and down to what matters";
const isRoot = process.getuid?.() === 0;
const why = " — skipped: steps act as root, and the guest here is this machine's own user";
test.skipIf(!isRoot)(isRoot ? title : title + why, async () => {
  const all = (await logs()).logs;
  expect(all.map(({ message }) => message)).toContain("heard");
  expect(await messages("?direction=backward")).toEqual(all.map(({ message }) => message).reverse());
  expect(await messages("?limit=1")).toEqual([all[0]!.message]);
  expect((await logs("?level=error")).logs.map(({ level }) => level)).toEqual(["error"]);
  expect(await messages(`?cursor=${Date.parse(all.at(-1)!.timestamp) + 1}`)).toEqual([]);
  expect(await messages("?cursor=0&direction=backward")).toEqual([]);
  for (const query of ["limit=101", "direction=up", "level=loud", "cursor=x"])
    expect(
      (await plane.fetch("GET", `/templates/${made.templateID}/builds/${made.buildID}/logs?${query}`)).status,
    ).toBe(400);
});

test("a team tells whether its template is public, and leaves to administrators what every team sees", async () => {
  for (const path of ["/templates/told", "/v2/templates/told"]) {
    expect(await plane.json<object>(200, "PATCH", path, { public: false })).toEqual({ names: ["told"] });
    const refused = await plane.fetch("PATCH", path, { public: true });
    expect([refused.status, (await refused.json()) as rest.e2b.ErrorBody]).toMatchObject([
      ...[403, { code: 403, message: expect.stringContaining("administrator") }],
    ]);
  }
  expect((await plane.fetch("PATCH", "/v2/templates/told", {})).status).toBe(400);
  const other = { [headers.apiKey]: await plane.otherKey() };
  expect((await plane.fetch("PATCH", "/v2/templates/told", { public: false }, other)).status).toBe(404);
});

test("a build is found by the UUID of its id too, as tags name it for clients that take nothing else", async () => {
  for (const id of [randomId(), "0".repeat(25), made.buildID]) {
    expect(uuidOf(id)).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(idOf(uuidOf(id))).toBe(id);
    expect(idOf(id)).toBe(id);
  }
  const path = `/templates/${made.templateID}/builds/${uuidOf(made.buildID)}/status`;
  expect((await plane.json<Status>(200, "GET", path)).status).toBe("error");
});
