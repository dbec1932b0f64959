import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type rest, WrennError } from "@wrenn/contract";
import { Human } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

let plane: Plane;
let ann: Human;
beforeAll(async () => {
  plane = await Plane.start();
  ann = await Human.join(plane, "Ann");
});
afterAll(() => plane[Symbol.asyncDispose]());

/** Somebody new with a team of its own, which has these limits. */
let count = 0;
async function team(limits: rest.QuotaLimits): Promise<Human> {
  const human = await Human.join(plane, `Q${++count}`);
  const { status } = await ann.ask("PUT", `/v1/admin/teams/${human.auth.team_id}/quotas`, limits);
  expect(status).toBe(200);
  return human;
}
const create = (human: Human, body: object = {}) => human.ask<rest.Capsule>("POST", "/v1/capsules", body);
const codes = (answers: readonly { status: number; code: string | undefined }[]) =>
  answers.map(({ status, code }) => code ?? status).sort();

test("parallel creations never pass the number of sandboxes, and say when to ask again", async () => {
  const human = await team({ sandboxes: 3 });
  const answers = await Promise.all(Array.from({ length: 10 }, () => create(human)));
  expect(codes(answers)).toEqual([...Array(3).fill(201), ...Array(7).fill("quota_exceeded")]);
  const refused = answers.find(({ status }) => status === 429)!;
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(WrennError.fromBody(refused.body)?.details).toMatchObject({ limit: "sandboxes" });
  const { body } = await human.ask<rest.QuotaState>("GET", "/v1/quotas");
  expect(body).toMatchObject({ limits: { sandboxes: 3 }, used: { sandboxes: 3, vcpus: 3, memory_mb: 1536 } });
});

test("a sandbox that is gone makes room, one that is paused does not", async () => {
  const human = await team({ sandboxes: 1 });
  const { body: first } = await create(human);
  await human.ask("POST", `/v1/capsules/${first.id}/pause`);
  expect((await create(human)).code).toBe("quota_exceeded");
  await human.ask("DELETE", `/v1/capsules/${first.id}`);
  expect((await create(human)).status).toBe(201);
});

test("memory and processors are held for what runs: a resume may be refused, and the sandbox stays paused", async () => {
  const human = await team({ memory_mb: 1024, vcpus: 2 });
  const { body: first } = await create(human, { memory_mb: 1024 });
  expect((await create(human)).code).toBe("quota_exceeded");
  await human.ask("POST", `/v1/capsules/${first.id}/pause`);
  const { body: second } = await create(human, { memory_mb: 512, vcpus: 1 });
  expect((await human.ask("POST", `/v1/capsules/${first.id}/resume`)).code).toBe("quota_exceeded");
  expect((await human.ask<rest.Capsule>("GET", `/v1/capsules/${first.id}`)).body.status).toBe("paused");
  await human.ask("DELETE", `/v1/capsules/${second.id}`);
  expect((await human.ask("POST", `/v1/capsules/${first.id}/resume`)).status).toBe(200);
});

test("a fork that would pass the quota makes none", async () => {
  const human = await team({ sandboxes: 3 });
  const { body: source } = await create(human);
  expect((await human.ask("POST", `/v1/capsules/${source.id}/fork`, { count: 3 })).code).toBe("quota_exceeded");
  expect((await human.ask<rest.Capsule[]>("GET", "/v1/capsules")).body).toHaveLength(1);
});

test("creations a second are limited", async () => {
  const human = await team({ creates_per_sec: 2 });
  const answers = await Promise.all(Array.from({ length: 6 }, () => create(human)));
  expect(codes(answers).filter((code) => code === 201).length).toBeLessThan(5);
  expect(codes(answers)).toContain("rate_limited");
});

test("a time-out is at most the longest, and one without end is the longest, in both dialects", async () => {
  const human = await team({ max_timeout_sec: 600 });
  expect((await create(human, { timeout_sec: 601 })).code).toBe("invalid_request");
  const { body } = await create(human);
  expect(body.timeout_sec).toBe(600);
  expect((await human.ask("POST", `/v1/capsules/${body.id}/timeout`, { timeout_sec: 601 })).code).toBe(
    "invalid_request",
  );
  expect((await human.ask("POST", "/sandboxes", { templateID: "minimal", timeout: 700 })).status).toBe(400);
  expect((await human.ask("POST", "/sandboxes", { templateID: "minimal", timeout: 500 })).status).toBe(201);
});

describe("defaults", () => {
  test("hold for teams without limits of their own, and no longer when those are set", async () => {
    await ann.ask("PATCH", "/v1/admin/settings", { default_quotas: { sandboxes: 1 } });
    const human = await Human.join(plane, "Def");
    expect((await create(human)).status).toBe(201);
    expect((await create(human)).code).toBe("quota_exceeded");
    await ann.ask("PUT", `/v1/admin/teams/${human.auth.team_id}/quotas`, { sandboxes: 2 });
    expect((await create(human)).status).toBe(201);
    await ann.ask("DELETE", `/v1/admin/teams/${human.auth.team_id}/quotas`);
    expect((await create(human)).code).toBe("quota_exceeded");
    await ann.ask("PATCH", "/v1/admin/settings", { default_quotas: {} });
    expect((await create(human)).status).toBe(201);
  });

  test("are an administrator's to set", async () => {
    const human = await Human.join(plane, "Nob");
    expect(await human.refusal("PATCH", "/v1/admin/settings", {})).toEqual([403, "forbidden"]);
    expect(await human.refusal("PUT", `/v1/admin/teams/${human.auth.team_id}/quotas`, {})).toEqual([403, "forbidden"]);
    expect(await ann.refusal("PATCH", "/v1/admin/settings", { default_quotas: { sandboxes: -1 } })).toEqual([
      400,
      "invalid_request",
    ]);
  });
});
