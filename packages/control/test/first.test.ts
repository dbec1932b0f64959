import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { rest } from "@wrenn/contract";
import { Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterAll(() => plane[Symbol.asyncDispose]());

describe("the first slice", () => {
  test("a sandbox is created, listed, read, used and deleted", async () => {
    const made = await plane.create({ metadata: { user: "ann" } });
    expect(made).toMatchObject({
      status: "running",
      template: "minimal",
      vcpus: 1,
      memory_mb: 512,
      metadata: { user: "ann", agent_version: "0.0.0" },
    });
    const listed = await plane.json<rest.Capsule[]>(200, "GET", "/v1/capsules");
    expect(listed.map((capsule) => capsule.id)).toContain(made.id);
    expect(await plane.json(200, "GET", `/v1/capsules/${made.id}`)).toEqual(made);
    const result = await plane.json<rest.ExecResult>(200, "POST", `/v1/capsules/${made.id}/exec`, {
      cmd: "/bin/echo",
      args: ["hello"],
    });
    expect(result).toMatchObject({ stdout: "hello\n", stderr: "", exit_code: 0, encoding: "utf-8" });
    await plane.json(204, "DELETE", `/v1/capsules/${made.id}`);
    expect((await plane.json(200, "GET", `/v1/capsules/${made.id}`)).status).toBe("stopped");
    expect(plane.host.sandboxes.size).toBe(0);
  });

  test("pause and resume", async () => {
    const made = await plane.create();
    expect((await plane.json(200, "POST", `/v1/capsules/${made.id}/pause`)).status).toBe("paused");
    expect(await plane.refusal("POST", `/v1/capsules/${made.id}/pause`)).toEqual({
      status: 409,
      code: "invalid_state",
    });
    expect((await plane.json(200, "POST", `/v1/capsules/${made.id}/resume`)).status).toBe("running");
  });
});
