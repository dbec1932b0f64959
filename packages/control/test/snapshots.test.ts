import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { hostagent, parseSandboxId, type rest } from "@wrenn/contract";
import { Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

const { SandboxState } = hostagent;
const path = (id: string, action = "") => `/v1/capsules/${id}${action && `/${action}`}`;
const bare = (id: string) => parseSandboxId(id)!;
const capsule = (id: string) => plane.json(200, "GET", path(id));
const checkpoint = (id: string, body: object = {}) =>
  plane.json<rest.Snapshot>(201, "POST", path(id, "checkpoint"), body);
const fork = (id: string, body: object = {}) => plane.json<rest.Capsule[]>(201, "POST", path(id, "fork"), body);
const listed = async (query = "") =>
  (await plane.json<rest.Template[]>(200, "GET", `/v1/snapshots${query}`)).map(({ name }) => name);
const live = async () => (await plane.json<rest.Capsule[]>(200, "GET", "/v1/capsules")).map(({ id }) => id).sort();

describe("a checkpoint", () => {
  for (const state of ["running", "paused"] as const)
    test(`of a ${state} sandbox is a template of its sizes, and the sandbox stays ${state}`, async () => {
      const { id } = await plane.create({ vcpus: 2, memory_mb: 256 });
      if (state === "paused") await plane.json(200, "POST", path(id, "pause"));
      const name = `point-${state}`;
      const made = await checkpoint(id, { name, metadata: { step: "1" } });
      expect(made).toMatchObject({ name, type: "snapshot", capsule_id: id, vcpus: 2, memory_mb: 256, platform: false });
      expect(made).toMatchObject({ size_bytes: 1_200, metadata: { step: "1" } });
      expect((await capsule(id)).status).toBe(state);
      expect(await plane.json<rest.Snapshot>(200, "GET", `/v1/snapshots/${name}`)).toEqual(made);
    });

  test("knows the one before it, and the sandbox says on which it stands", async () => {
    const { id } = await plane.create();
    const first = await checkpoint(id);
    const second = await checkpoint(id);
    expect(first.name).toMatch(/^template-[0-9a-f]{8}$/);
    expect([first.parent, second.parent]).toEqual([undefined, first.name]);
    expect((await capsule(id)).origin).toBe(second.name);
    plane.host.change(bare(id), SandboxState.PAUSED);
    expect((await plane.until(id, "paused")).origin).toBe(second.name);
  });

  test("with overwrite takes the place of the one that has its name; what was made from that stays", async () => {
    const { id } = await plane.create();
    const take = async () => {
      const body = { sandbox_id: id, name: "again" };
      const made = await plane.json<rest.Snapshot>(201, "POST", "/v1/snapshots?overwrite=true", body);
      await plane.json(200, "POST", path(id, "resume"));
      return made;
    };
    const first = await take();
    const child = await plane.create({ template: "again" });
    const before = new Set(plane.host.snapshots.keys());
    const second = await take();
    expect([first.name, second.name]).toEqual(["again", "again"]);
    expect((await listed("?type=custom")).filter((name) => name === "again")).toHaveLength(1);
    expect(plane.host.snapshots.size).toBe(before.size); // the former one is gone from the host
    expect([...plane.host.snapshots.keys()].filter((known) => !before.has(known))).toHaveLength(1);
    expect((await capsule(child.id)).status).toBe("running");
    await plane.json(204, "DELETE", "/v1/snapshots/again");
    for (const one of [id, child.id]) await plane.json(204, "DELETE", path(one));
  });

  test("a name that is taken, or a template's, is a conflict before the host is asked", async () => {
    const { id } = await plane.create();
    await checkpoint(id, { name: "once" });
    const taken = plane.host.snapshots.size;
    for (const name of ["once", "minimal"])
      for (const [route, body] of [
        [path(id, "checkpoint"), { name }],
        ["/v1/snapshots", { name, sandbox_id: id }],
      ] as const)
        expect(await plane.refusal("POST", route, body)).toEqual({ status: 409, code: "conflict" });
    expect(plane.host.snapshots.size).toBe(taken);
    expect((await capsule(id)).status).toBe("running");
  });

  test("of many under one name at once one is made, and the host keeps no other", async () => {
    const { id } = await plane.create();
    const before = plane.host.snapshots.size;
    plane.host.delayMs = 30;
    const tries = await Promise.all(
      Array.from({ length: 5 }, () => plane.fetch("POST", path(id, "checkpoint"), { name: "race" })),
    );
    plane.host.delayMs = 0;
    expect(tries.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409]);
    expect(plane.host.snapshots.size).toBe(before + 1);
  });

  test("is refused for a sandbox that is over, a bad name, and passes on what the host says", async () => {
    const { id } = await plane.create();
    plane.host.script("checkpoint", "1*error(insufficient_storage)->off");
    expect(await plane.refusal("POST", path(id, "checkpoint"), { name: "full" })).toEqual({
      status: 507,
      code: "insufficient_storage",
    });
    expect(await listed()).not.toContain("full");
    expect(await plane.refusal("POST", path(id, "checkpoint"), { name: "../x" })).toEqual({
      status: 400,
      code: "invalid_request",
    });
    await plane.json(204, "DELETE", path(id));
    expect(await plane.refusal("POST", path(id, "checkpoint"), {})).toEqual({ status: 409, code: "invalid_state" });
  });
});

describe("POST /v1/snapshots", () => {
  for (const state of ["running", "paused"] as const)
    test(`of a ${state} sandbox leaves it paused`, async () => {
      const { id } = await plane.create();
      if (state === "paused") await plane.json(200, "POST", path(id, "pause"));
      const made = await plane.json<rest.Snapshot>(201, "POST", "/v1/snapshots", { sandbox_id: id });
      expect(made.name).toMatch(/^template-[0-9a-f]{8}$/);
      expect((await capsule(id)).status).toBe("paused");
    });

  test("a sandbox that is not the team's is 404, an id of a wrong shape 400", async () => {
    const ask = (sandbox_id: string) => plane.refusal("POST", "/v1/snapshots", { sandbox_id });
    expect(await ask(`cl-${"0".repeat(25)}`)).toEqual({ status: 404, code: "not_found" });
    expect(await ask("nope")).toEqual({ status: 400, code: "invalid_request" });
  });
});

describe("the list", () => {
  test("has templates and the team's snapshots, and one kind when asked for it", async () => {
    const { id } = await plane.create();
    const { name } = await checkpoint(id);
    expect(await listed()).toEqual(expect.arrayContaining(["minimal", name]));
    expect(await listed("?type=base")).toEqual(["minimal"]);
    expect((await listed("?type=snapshot"))[0]).toBe(name);
    expect(await listed("?type=snapshot")).not.toContain("minimal");
    expect((await plane.json<rest.Template>(200, "GET", "/v1/snapshots/minimal")).platform).toBe(true);
  });

  test("of another team shows nothing of ours, and our names are free there", async () => {
    const { id } = await plane.create();
    const { name } = await checkpoint(id);
    const other = { "X-API-Key": await plane.otherKey() };
    expect(await (await plane.fetch("GET", "/v1/snapshots?type=snapshot", undefined, other)).json()).toEqual([]);
    for (const [method, route, body] of [
      ["GET", `/v1/snapshots/${name}`],
      ["DELETE", `/v1/snapshots/${name}`],
      ["POST", "/v1/capsules", { template: name }],
    ] as const)
      expect(await plane.refusal(method, route, body, other)).toEqual({ status: 404, code: "not_found" });
    expect(await listed()).toContain(name);
  });
});

describe("a deletion", () => {
  test("removes it here and on the host; what followed it follows its parent then", async () => {
    const { id } = await plane.create();
    const [first, second, third] = [await checkpoint(id), await checkpoint(id), await checkpoint(id)];
    const before = plane.host.snapshots.size;
    await plane.json(204, "DELETE", `/v1/snapshots/${second.name}`);
    expect(plane.host.snapshots.size).toBe(before - 1);
    expect(await plane.refusal("GET", `/v1/snapshots/${second.name}`)).toEqual({ status: 404, code: "not_found" });
    expect(third.parent).toBe(second.name);
    const later = await plane.json<rest.Snapshot>(200, "GET", `/v1/snapshots/${third.name}`);
    expect(later.parent).toBe(first.name);
  });

  test("of a template is 403, of an unknown name 404; when the host does not answer the snapshot stays", async () => {
    expect(await plane.refusal("DELETE", "/v1/snapshots/minimal")).toEqual({ status: 403, code: "forbidden" });
    expect(await plane.refusal("DELETE", "/v1/snapshots/never")).toEqual({ status: 404, code: "not_found" });
    const { name } = await checkpoint((await plane.create()).id);
    plane.host.script("drop", "1*error(host_unavailable)->off");
    expect(await plane.refusal("DELETE", `/v1/snapshots/${name}`)).toEqual({ status: 503, code: "host_unavailable" });
    expect(await listed()).toContain(name);
    await plane.json(204, "DELETE", `/v1/snapshots/${name}`);
  });
});

test("a sandbox is created from a snapshot by its name, with its sizes, even when its source is gone", async () => {
  const source = await plane.create({ vcpus: 3 });
  const { name } = await checkpoint(source.id, { name: "seed" });
  await plane.json(204, "DELETE", path(source.id));
  const made = await plane.create({ template: name, vcpus: 1 });
  expect(made).toMatchObject({ status: "running", template: name, origin: name, vcpus: 3 });
  await plane.json(204, "DELETE", `/v1/snapshots/${name}`);
  expect((await capsule(made.id)).origin).toBeUndefined();
});

describe("a fork", () => {
  for (const state of ["running", "paused"] as const)
    test(`of a ${state} sandbox gives running children of one implicit checkpoint`, async () => {
      const wishes = { timeout_sec: 60, metadata: { user: "ann" } };
      const { id } = await plane.create({ ...wishes, timeout_action: "kill", vcpus: 2 });
      if (state === "paused") await plane.json(200, "POST", path(id, "pause"));
      const children = await fork(id, { count: 3, envs: { A: "1" } });
      expect(new Set(children.map((child) => child.id)).size).toBe(3);
      const [origin] = new Set(children.map((child) => child.origin));
      for (const child of children) {
        expect(child).toMatchObject({ status: "running", template: "minimal", origin: origin!, vcpus: 2 });
        expect(child).toMatchObject({ timeout_sec: 60, metadata: { user: "ann" } });
        expect(plane.host.envs.get(bare(child.id))).toEqual({ A: "1" });
      }
      const kept = await plane.json<rest.Snapshot>(200, "GET", `/v1/snapshots/${origin}`);
      expect(kept).toMatchObject({ capsule_id: id, metadata: { implicit: "true" } });
      expect((await capsule(id)).status).toBe(state);
    });

  test("is all or nothing: when one child fails the others are removed and the source is as it was", async () => {
    const { id } = await plane.create();
    const before = await live();
    const held = plane.host.sandboxes.size;
    plane.host.script("create", "2*off->1*error(insufficient_storage)->off");
    expect(await plane.refusal("POST", path(id, "fork"), { count: 4 })).toEqual({
      status: 507,
      code: "insufficient_storage",
    });
    expect(await live()).toEqual(before);
    while (plane.host.sandboxes.size > held) await Bun.sleep(5);
    expect(await fork(id, { count: 2 })).toHaveLength(2);
  });

  test("what may not be asked for changes nothing", async () => {
    const { id } = await plane.create();
    const before = plane.host.snapshots.size;
    for (const body of [{ count: 0 }, { count: 101 }, { timeout_sec: -1 }])
      expect((await plane.refusal("POST", path(id, "fork"), body)).code).toBe("invalid_request");
    await plane.json(204, "DELETE", path(id));
    expect(await plane.refusal("POST", path(id, "fork"), {})).toEqual({ status: 409, code: "invalid_state" });
    expect(plane.host.snapshots.size).toBe(before);
  });
});

describe("a roll back", () => {
  for (const state of ["running", "paused"] as const)
    test(`of a ${state} sandbox, by name or id, makes it run as a new incarnation`, async () => {
      const { id } = await plane.create();
      const { name } = await checkpoint(id);
      const [internal] = [...plane.host.snapshots.values()].filter(({ sandboxId }) => sandboxId === bare(id));
      await checkpoint(id);
      for (const snapshot of [name, internal!.id]) {
        if (state === "paused") await plane.json(200, "POST", path(id, "pause"));
        const run = plane.host.sandboxes.get(bare(id))!.run;
        const back = await plane.json(200, "POST", path(id, "rollback"), { snapshot });
        expect(back).toMatchObject({ id, status: "running", origin: name });
        expect(plane.host.sandboxes.get(bare(id))!.run).toBe(run + 1n);
      }
    });

  test("a child can go back to where it was forked, but nobody to a stranger's snapshot", async () => {
    const source = await plane.create();
    const first = await checkpoint(source.id);
    const [child] = await fork(source.id);
    await checkpoint(child!.id);
    const body = { snapshot: first.name };
    expect((await plane.json(200, "POST", path(child!.id, "rollback"), body)).origin).toBe(first.name);
    const { id } = await plane.create();
    expect(await plane.refusal("POST", path(id, "rollback"), body)).toEqual({ status: 400, code: "invalid_request" });
    expect(await plane.refusal("POST", path(id, "rollback"), { snapshot: "never" })).toEqual({
      status: 404,
      code: "not_found",
    });
    expect((await capsule(id)).status).toBe("running");
  });

  for (const state of ["running", "paused"] as const)
    test(`that fails leaves a ${state} sandbox as it was, and works the next time`, async () => {
      const { id } = await plane.create();
      const { name } = await checkpoint(id);
      if (state === "paused") await plane.json(200, "POST", path(id, "pause"));
      plane.host.script("rollback", "1*error(insufficient_storage)->off");
      expect((await plane.refusal("POST", path(id, "rollback"), { snapshot: name })).code).toBe("insufficient_storage");
      expect((await capsule(id)).status).toBe(state);
      expect((await plane.json(200, "POST", path(id, "rollback"), { snapshot: name })).status).toBe("running");
    });
});
