import { describe, expect, test } from "bun:test";
import { headers, parseSandboxId, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { planeOfFile } from "./support/plane.ts";

const plane = planeOfFile();

const ask = (key: string, body: object = {}, more: Record<string, string> = {}) =>
  plane().fetch("POST", "/v1/capsules", body, { [headers.idempotencyKey]: key, ...more });
const made = async (answer: Response): Promise<rest.Capsule> => {
  expect(answer.status).toBe(201);
  return (await answer.json()) as rest.Capsule;
};
const refused = (key: string, body: object = {}) =>
  plane().refusal("POST", "/v1/capsules", body, { [headers.idempotencyKey]: key });
const count = async () => (await plane().json<rest.Capsule[]>(200, "GET", "/v1/capsules")).length;

describe("a creation with an idempotency key", () => {
  test("asked again gives the same sandbox, also when it was removed meanwhile", async () => {
    const first = await made(await ask("again", { metadata: { a: "1" } }));
    expect((await made(await ask("again", { metadata: { a: "1" } }))).id).toBe(first.id);
    await plane().json(204, "DELETE", `/v1/capsules/${first.id}`);
    expect(await made(await ask("again", { metadata: { a: "1" } }))).toMatchObject({ id: first.id, status: "stopped" });
  });

  test("asked many times at once makes one sandbox, and every answer is that it runs", async () => {
    const before = await count();
    plane().host.delayMs = 50;
    const all = await Promise.all(Array.from({ length: 8 }, () => ask("burst").then(made)));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(new Set(all.map(({ status }) => status))).toEqual(new Set(["running"]));
    expect(await count()).toBe(before + 1);
  });

  test("with another body is a conflict and makes nothing", async () => {
    await made(await ask("other"));
    const before = await count();
    expect(await refused("other", { vcpus: 2 })).toEqual({ status: 409, code: "conflict" });
    expect(await count()).toBe(before);
  });

  test("is another one for another key or another team", async () => {
    const other = { [headers.apiKey]: await plane().otherKey() };
    const all = [await made(await ask("k1")), await made(await ask("k2")), await made(await ask("k1", {}, other))];
    expect(new Set(all.map(({ id }) => id)).size).toBe(3);
  });

  test("that failed can be tried again under its key", async () => {
    for (const step of ["create", "created"] as const) {
      plane().host.script(step, "1*error(insufficient_storage)->off");
      expect(await refused(step)).toEqual({ status: 507, code: "insufficient_storage" });
      expect((await made(await ask(step))).status).toBe("running");
    }
    expect(await refused("typo", { template: "nope" })).toEqual({ status: 404, code: "not_found" });
    expect((await made(await ask("typo"))).status).toBe("running");
  });

  test("that a control plane left half-done can be tried again under its key", async () => {
    const left = await made(await ask("crashed"));
    await using sql = new SQL(plane().options.databaseUrl, { max: 1 });
    await sql`update sandboxes set state = 'error', started_at = null where id = ${parseSandboxId(left.id)!}`;
    expect(await made(await ask("crashed"))).toMatchObject({
      id: expect.not.stringMatching(left.id),
      status: "running",
    });
  });

  test("is forgotten after a day", async () => {
    const first = await made(await ask("old"));
    await using sql = new SQL(plane().options.databaseUrl, { max: 1 });
    await sql`update idempotency_keys set created_at = now() - interval '25 hours' where key = 'old'`;
    expect((await made(await ask("old", { vcpus: 2 }))).id).not.toBe(first.id);
  });

  for (const key of ["", "a b", "x".repeat(256)])
    test(`${JSON.stringify(key.slice(0, 5))} of ${key.length} characters is no key`, async () =>
      expect(await refused(key)).toEqual({ status: 400, code: "invalid_request" }));
});
