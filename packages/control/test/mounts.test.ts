import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { parseSandboxId, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { Plane } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

let plane: Plane;
let volume: rest.Volume;
beforeAll(async () => {
  plane = await Plane.start({ volumesMs: 50 });
  volume = await plane.json<rest.Volume>(201, "POST", "/v1/volumes", { name: "data" });
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

const until = async (holds: () => boolean | Promise<boolean>) => {
  while (!(await holds())) await Bun.sleep(20);
};
const mounted = (id: string) => plane.host.mounts.get(parseSandboxId(id)!);
const data = { name: "data", path: "/data" };
const onHost = () => [{ volume: volume.id, path: "/data" }];

test("both dialects mount a volume by its name, show it, and ask the host that has it", async () => {
  const capsule = await plane.create({ volumes: [{ ...data, path: "//data/" }] });
  expect([capsule.volumes, mounted(capsule.id)]).toEqual([[data], onHost()]);
  const body = { templateID: "minimal", volumeMounts: [data] };
  const { sandboxID } = await plane.json<rest.e2b.Sandbox>(201, "POST", "/v2/sandboxes", body);
  expect(mounted(sandboxID)).toEqual(onHost());
  const shown = await plane.json<rest.e2b.SandboxDetail>(200, "GET", `/sandboxes/${sandboxID}`);
  expect(shown.volumeMounts).toEqual([data]);
  const plain = await plane.create();
  expect([plain.volumes, mounted(plain.id)]).toEqual([undefined, []]);
});

test("a volume that is not the team's is 404, in the E2B dialect 400, and makes nothing", async () => {
  const made = plane.host.sandboxes.size;
  const volumes = [{ name: "nope", path: "/data" }];
  expect(await plane.refusal("POST", "/v1/capsules", { volumes })).toEqual({ status: 404, code: "not_found" });
  const dialect = await plane.fetch("POST", "/sandboxes", { templateID: "minimal", volumeMounts: volumes });
  expect([dialect.status, await dialect.json()]).toMatchObject([
    400,
    { code: 400, message: expect.stringContaining('"nope"') },
  ]);
  const key = { "X-API-Key": await plane.otherKey() };
  const foreign = plane.refusal("POST", "/v1/capsules", { volumes: [data] }, key);
  expect(await foreign).toEqual({ status: 404, code: "not_found" });
  expect(plane.host.sandboxes.size).toBe(made);
});

for (const path of ["data", "/", "/a/../b", "/proc/x", "/usr", "/dev/", "/a\0", "/usr/local/lib/wrenn/x"])
  test(`nothing is mounted at ${JSON.stringify(path)}`, async () => {
    const body = { volumes: [{ name: "data", path }] };
    expect(await plane.refusal("POST", "/v1/capsules", body)).toEqual({ status: 400, code: "invalid_request" });
  });

test("two volumes at one path are refused", async () => {
  const body = { volumes: [data, { name: "data", path: "/data/" }] };
  expect(await plane.refusal("POST", "/v1/capsules", body)).toEqual({ status: 400, code: "invalid_request" });
});

test("forks and what is started from a snapshot have the volumes of their source; a rollback keeps them", async () => {
  const { id } = await plane.create({ volumes: [data] });
  const [child] = await plane.json<rest.Capsule[]>(201, "POST", `/v1/capsules/${id}/fork`, {});
  expect([child!.volumes, mounted(child!.id)]).toEqual([[data], onHost()]);
  const { name } = await plane.json<rest.Snapshot>(201, "POST", `/v1/capsules/${id}/checkpoint`, {});
  const more = { name: "data", path: "/more" };
  const started = await plane.create({ template: name, volumes: [more] });
  expect(started.volumes).toEqual([data, more]);
  const back = await plane.json<rest.Capsule>(200, "POST", `/v1/capsules/${id}/rollback`, { snapshot: name });
  expect(back.volumes).toEqual([data]);
});

test("a sandbox with volumes is not moved to the object store", async () => {
  const { id } = await plane.create({ volumes: [data] });
  const refused = await plane.refusal("POST", `/v1/capsules/${id}/hibernate`);
  expect(refused).toEqual({ status: 400, code: "invalid_request" });
  expect((await plane.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("running");
});

test("a volume is made, listed, and removed by its name; a second one of that name is a conflict", async () => {
  const made = await plane.json<rest.Volume>(201, "POST", "/v1/volumes", { name: "once" });
  expect(await plane.refusal("POST", "/v1/volumes", { name: "once" })).toEqual({ status: 409, code: "conflict" });
  expect(await plane.json<rest.Volume[]>(200, "GET", "/v1/volumes")).toEqual([made, volume]);
  await plane.json(204, "DELETE", "/v1/volumes/once");
  expect(plane.host.volumes.has(made.id)).toBe(false);
  expect(await plane.refusal("DELETE", "/v1/volumes/once")).toEqual({ status: 404, code: "not_found" });
});

test("a deleted team's volumes are removed from their host, when that is there again at the latest", async () => {
  const key = { "X-API-Key": await plane.otherKey() };
  const answer = await plane.fetch("POST", "/v1/volumes", { name: "left" }, key);
  const { id } = (await answer.json()) as rest.Volume;
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  await sql`update teams set deleted_at = now() where id = 'team-other'`;
  plane.host.script("volume", "1*error(no)->off");
  await until(() => !plane.host.volumes.has(id));
  await until(async () => (await sql`select 1 from volumes where id = ${id}`).length === 0);
  expect(plane.host.volumes.has(volume.id)).toBe(true);
});
