import { afterAll, beforeAll, describe, expect, setSystemTime, test } from "bun:test";
import { hostagent, parseSandboxId, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import fc from "fast-check";
import { call } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterAll(() => plane[Symbol.asyncDispose]());

const bare = (id: string) => parseSandboxId(id)!;

describe("reports of a host that come twice, late and in another order", () => {
  test("leave every sandbox in the state that it is in", async () => {
    const told: hostagent.Sandbox[] = [];
    const made = await Promise.all(Array.from({ length: 4 }, () => plane.create()));
    const note = () => told.push(...made.map(({ id }) => plane.host.sandboxes.get(bare(id))!));
    note();
    for (const word of ["pause", "resume", "pause"]) {
      for (const { id } of made) await plane.json(200, "POST", `/v1/capsules/${id}/${word}`);
      note();
    }
    await plane.json(200, "POST", `/v1/capsules/${made[0]!.id}/resume`);
    const [order] = fc.sample(fc.shuffledSubarray([...told, ...told], { minLength: told.length * 2 }), {
      numRuns: 1,
      seed: 7,
    });
    for (const report of order!) plane.host.replay(report);
    const marker = await plane.create();
    plane.host.change(bare(marker.id), hostagent.SandboxState.PAUSED); // comes after all of them
    await plane.until(marker.id, "paused");
    const states = await Promise.all(made.map(({ id }) => plane.json(200, "GET", `/v1/capsules/${id}`)));
    expect(states.map(({ status }) => status)).toEqual(["running", "paused", "paused", "paused"]);
  });

  test("an answer that is lost after the host did its work: the caller is told, and the state is the host's", async () => {
    plane.host.script("created", "1*error(unavailable)->off");
    const before = plane.host.sandboxes.size;
    expect((await plane.refusal("POST", "/v1/capsules", {})).status).toBe(503);
    while (plane.host.sandboxes.size > before) await Bun.sleep(5); // what it had made is removed again
    const { id } = await plane.create();
    plane.host.script("paused", "1*error(unavailable)->off");
    expect((await plane.refusal("POST", `/v1/capsules/${id}/pause`)).status).toBe(503);
    await plane.until(id, "paused");
    plane.host.heal();
  });
});

describe("clocks that disagree", () => {
  for (const [what, ms] of [
    ["a day ahead", 86_400_000],
    ["a day behind", -86_400_000],
  ] as const)
    test(`a control plane ${what} of its database neither gives the host up nor ends what runs`, async () => {
      await using skewed = await Plane.start({ hostLostMs: 2_000, sweepMs: 20 });
      const { id } = await skewed.create({ timeout_sec: 3_600 });
      try {
        setSystemTime(new Date(Date.now() + ms));
        for (let round = 0; round < 10; round++) {
          await Bun.sleep(20); // several sweeps
          expect((await skewed.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("running");
        }
        expect((await skewed.create()).status).toBe("running");
        const [host] = await skewed.json<rest.Host[]>(200, "GET", "/v1/hosts");
        expect(host!.status).toBe("online");
        await skewed.json(200, "POST", `/v1/capsules/${id}/pause`);
        await skewed.json(200, "POST", `/v1/capsules/${id}/resume`);
        await using sql = new SQL(skewed.options.databaseUrl, { max: 1 });
        const spans = await sql`select 1 from usage_spans where ended_at < started_at or started_at > now()`;
        expect([...spans]).toEqual([]);
      } finally {
        setSystemTime();
      }
    });
});

test("a hundred hosts that come back at once are all heard, and creates go on meanwhile", async () => {
  const count = 100;
  const identities = await Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const { registration_token: token } = await plane.json<rest.RegistrableHost>(201, "POST", "/v1/hosts", {});
      const join = { token, address: `192.0.2.${at % 250}:${1_000 + at}`, memory_mb: 1_024 };
      const { body, status } = await call<rest.HostIdentity>(plane, "POST", "/v1/hosts/register", join);
      expect(status).toBe(201);
      return body;
    }),
  );
  const began = new Date(Date.now() - 1_000);
  const beats = identities.map(({ host, token }) =>
    call(plane, "POST", `/v1/hosts/${host.id}/heartbeat`, undefined, { "x-host-token": token }),
  );
  const creates = Array.from({ length: 10 }, () => plane.create());
  for (const { status } of await Promise.all(beats)) expect(status).toBe(204);
  for (const { status } of await Promise.all(creates)) expect(status).toBe("running");
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  const [{ heard }] = await sql`select count(*)::int as heard from hosts where last_heartbeat_at >= ${began}`;
  expect(heard).toBeGreaterThanOrEqual(count);
  // Renewed all at once too: each refresh token opens once, however often it is shown.
  const [first] = identities;
  const renewals = await Promise.all(
    [1, 2, 3].map(() => call(plane, "POST", "/v1/hosts/auth/refresh", { refresh_token: first!.refresh_token })),
  );
  expect(renewals.map(({ status }) => status).sort()).toEqual([200, 401, 401]);
});
