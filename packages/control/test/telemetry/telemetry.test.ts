import { afterAll, beforeAll, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { hostagent } from "@wrenn/contract";
import { Plane } from "../support/plane.ts";

const { MetricPointSchema } = hostagent;

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterAll(() => plane[Symbol.asyncDispose]());

const ago = (seconds: number) => BigInt(Date.now() - seconds * 1_000);
const load = { cpuPct: 12.345, memBytes: 10n, diskBytes: 20n };

test("metrics are those of the span asked for, running or paused, with what the guest said", async () => {
  const { id } = await plane.create();
  const guest = { memUsedBytes: 1n, netRxBytes: 9n };
  plane.host.points = [
    create(MetricPointSchema, { ...load, timestampMs: ago(5_000) }),
    create(MetricPointSchema, { ...load, timestampMs: ago(30), guest }),
  ];
  const ask = (query = "") => plane.json(200, "GET", `/v1/capsules/${id}/metrics${query}`);
  const recent = (await ask()) as unknown as { range: string; points: unknown[] };
  expect(recent).toMatchObject({ sandbox_id: id, range: "10m" });
  expect(recent.points).toEqual([
    expect.objectContaining({ cpu_pct: 12.35, mem_bytes: 10, disk_bytes: 20, mem_used_bytes: 1, net_rx_bytes: 9 }),
  ]);
  await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
  const long = (await ask("?range=2h")) as unknown as { points: object[] };
  expect(long.points.length).toBe(2);
  expect(long.points[0]).not.toHaveProperty("mem_used_bytes");
});

test("a range that is none of ours, and a sandbox that is gone, are refused", async () => {
  const { id } = await plane.create();
  expect((await plane.fetch("GET", `/v1/capsules/${id}/metrics?range=3w`)).status).toBe(400);
  await plane.fetch("DELETE", `/v1/capsules/${id}`);
  expect((await plane.fetch("GET", `/v1/capsules/${id}/metrics`)).status).toBe(404);
});
