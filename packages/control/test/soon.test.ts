import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterAll(() => plane[Symbol.asyncDispose]());

describe("a create that is not waited for", () => {
  test("answers at once with where to look, and runs a moment later", async () => {
    const release = plane.host.hold("create");
    const answer = await plane.fetch("POST", "/v1/capsules?wait=false", {});
    expect(answer.status).toBe(202);
    const capsule = (await answer.json()) as rest.Capsule;
    expect(capsule.status).toBe("starting");
    expect(answer.headers.get("location")).toBe(`/v1/capsules/${capsule.id}`);
    release();
    expect(await plane.until(capsule.id, "running")).toMatchObject({ id: capsule.id });
  });

  test("is asked for by RFC 7240's header too, and keeps its idempotency key", async () => {
    const sent = { prefer: "wait=5, respond-async", [headers.idempotencyKey]: "once-and-soon" };
    const ask = () => plane.fetch("POST", "/v1/capsules", {}, sent);
    const first = (await (await ask()).json()) as rest.Capsule;
    await plane.until(first.id, "running");
    const again = await ask();
    expect([again.status, ((await again.json()) as rest.Capsule).id]).toEqual([202, first.id]);
  });

  test("that cannot be placed is refused as any other; one that fails later says so in its row", async () => {
    expect((await plane.fetch("POST", "/v1/capsules?wait=false", { template: "nonesuch" })).status).toBe(404);
    plane.host.script("create", "1*error(no kernel)");
    const answer = await plane.fetch("POST", "/v1/capsules?wait=false", {});
    const { id } = (await answer.json()) as rest.Capsule;
    expect(await plane.until(id, "error")).toHaveProperty("error");
  });
});

test("waiting for a port: 204 when something listens, 408 when nothing does, 400 for what is no port", async () => {
  const { id } = await plane.create();
  plane.host.apps.set(3000, plane.host.guest);
  const wait = async (port: string) =>
    (await plane.fetch("POST", `/v1/capsules/${id}/ports/${port}/wait`, { timeout_sec: 1 })).status;
  expect([await wait("3000"), await wait("4000"), await wait("0")]).toEqual([204, 408, 400]);
});
