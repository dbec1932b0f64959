import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

const path = (id: string) => `/v1/capsules/${id}`;
const change = (id: string, body: object, more?: Record<string, string>) => plane.fetch("PATCH", path(id), body, more);
const listed = async (query: string) =>
  (await plane.json<rest.Capsule[]>(200, "GET", `/v1/capsules?${query}`)).map(({ id }) => id);

describe("a sandbox's name", () => {
  test("is given when it is made, shown, and finds it; it is another's in another team", async () => {
    const { id } = await plane.create({ name: "build" });
    expect(await plane.json(200, "GET", path(id))).toMatchObject({ name: "build" });
    expect(await listed("name=build")).toEqual([id]);
    expect(await listed("name=nobody")).toEqual([]);
    const other = { [headers.apiKey]: await plane.otherKey() };
    expect((await plane.fetch("POST", "/v1/capsules", { name: "build" }, other)).status).toBe(201);
    expect(await plane.create()).not.toHaveProperty("name");
  });

  test("is one sandbox's at a time: of many that ask at once one gets it, and no other leaves a trace", async () => {
    const before = plane.host.sandboxes.size;
    const tries = await Promise.all(
      Array.from({ length: 6 }, () => plane.fetch("POST", "/v1/capsules", { name: "race" })),
    );
    expect(tries.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409, 409]);
    expect(plane.host.sandboxes.size).toBe(before + 1);
    const refused = (await tries.find(({ status }) => status === 409)!.json()) as { error: object };
    expect(refused.error).toMatchObject({ code: "conflict", details: { name: "race" }, remedy: expect.any(String) });
  });

  test("is free again when the sandbox is gone, or could not be made", async () => {
    const { id } = await plane.create({ name: "again" });
    await plane.json(204, "DELETE", path(id));
    plane.host.script("create", "1*error(insufficient_storage)->off");
    expect((await plane.refusal("POST", "/v1/capsules", { name: "again" })).status).toBe(507);
    expect((await plane.create({ name: "again" })).name).toBe("again");
    expect((await plane.json(200, "GET", path(id))).name).toBe("again"); // what it was called
  });

  test("is kept through a pause and told by its creation's key", async () => {
    const key = { [headers.idempotencyKey]: "named" };
    const ask = async () =>
      (await (await plane.fetch("POST", "/v1/capsules", { name: "kept" }, key)).json()) as rest.Capsule;
    const { id } = await ask();
    await plane.json(200, "POST", `${path(id)}/pause`);
    expect(await ask()).toMatchObject({ id, name: "kept", status: "paused" });
  });

  for (const name of ["", "-x", "a b", "x".repeat(65), `cl-${"0".repeat(25)}`, "0".repeat(25), 7])
    test(`${JSON.stringify(name)} is none`, async () => {
      expect(await plane.refusal("POST", "/v1/capsules", { name })).toEqual({ status: 400, code: "invalid_request" });
    });
});

describe("a change of name and metadata", () => {
  test("replaces what it names, keeps the rest, and takes the name away", async () => {
    const { id } = await plane.create({ name: "first", metadata: { a: "1" } });
    expect(await (await change(id, { name: "second" })).json()).toMatchObject({ name: "second", metadata: { a: "1" } });
    expect(await (await change(id, { metadata: { b: "2" } })).json()).toMatchObject({ name: "second" });
    const shown = (await (await change(id, { name: null })).json()) as rest.Capsule;
    expect(shown.metadata).toMatchObject({ b: "2", envd_version: "0.6.4" });
    expect(shown.metadata).not.toHaveProperty("a");
    expect(shown).not.toHaveProperty("name");
  });

  test("to a name in use is refused and changes nothing", async () => {
    await plane.create({ name: "used" });
    const { id } = await plane.create({ name: "mine", metadata: { a: "1" } });
    expect((await change(id, { name: "used", metadata: {} })).status).toBe(409);
    expect(await plane.json(200, "GET", path(id))).toMatchObject({ name: "mine", metadata: { a: "1" } });
  });

  test("made for what was read is refused when that has changed since", async () => {
    const { id } = await plane.create();
    const etag = (await plane.fetch("GET", path(id))).headers.get("etag")!;
    expect((await plane.fetch("GET", path(id), undefined, { "if-none-match": etag })).status).toBe(304);
    const made = await change(id, { name: "tagged" }, { "if-match": etag });
    expect([made.status, made.headers.get("etag")]).toEqual([200, expect.not.stringContaining(etag)]);
    expect((await change(id, { name: "late" }, { "if-match": etag })).status).toBe(412);
    const all = await Promise.all(
      ["a", "b", "c"].map((name) => change(id, { name }, { "if-match": made.headers.get("etag")! })),
    );
    expect(all.map(({ status }) => status).sort()).toEqual([200, 412, 412]);
    expect((await change(`cl-${"0".repeat(25)}`, { name: "x" })).status).toBe(404);
  });
});
