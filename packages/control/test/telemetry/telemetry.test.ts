import { afterAll, beforeAll, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { hostagent, type rest } from "@wrenn/contract";
import { Plane } from "../support/plane.ts";

const { LogEntrySchema, MetricPointSchema } = hostagent;

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

/** The data of the first `count` events that carry any. */
async function eventsOf<T>(answer: Response, count: number): Promise<T[]> {
  const found: T[] = [];
  let text = "";
  for await (const chunk of answer.body!) {
    text += new TextDecoder().decode(chunk);
    const blocks = text.split("\n\n");
    text = blocks.pop()!;
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data) found.push(JSON.parse(data) as T);
    }
    if (found.length >= count) break;
  }
  return found;
}

test("metrics that are followed tell each point once, as it comes, and end with the sandbox", async () => {
  const { id } = await plane.create();
  const at = (seconds: number, cpuPct: number) =>
    create(MetricPointSchema, { ...load, cpuPct, timestampMs: ago(seconds) });
  plane.host.points = [at(60, 1), at(30, 2)];
  const answer = await plane.fetch("GET", `/v1/capsules/${id}/metrics?follow=true`);
  expect(answer.headers.get("content-type")).toBe("text/event-stream");
  plane.host.points = [...plane.host.points, at(1, 3)];
  const told = await eventsOf<rest.MetricPoint[]>(answer, 2);
  expect(told.map((points) => points.map(({ cpu_pct }) => cpu_pct))).toEqual([[1, 2], [3]]);
  const other = await plane.fetch("GET", `/v1/capsules/${id}/metrics?follow=true`);
  await plane.fetch("DELETE", `/v1/capsules/${id}`);
  expect(await other.text()).toEndWith("event: end\ndata: {}\n\n");
});

test("a network that is followed is told when it changes, not again while it does not, and ends with the sandbox", async () => {
  const { id } = await plane.create();
  const answer = await plane.fetch("GET", `/v1/capsules/${id}/network?follow=true`);
  expect(answer.headers.get("content-type")).toBe("text/event-stream");
  let text = "";
  for await (const chunk of answer.body!) {
    text += new TextDecoder().decode(chunk);
    if (text.includes('"count":3')) await plane.fetch("DELETE", `/v1/capsules/${id}`);
    else if (text.includes(": keep-alive")) plane.host.reached = 3n;
  }
  expect(text.match(/"connections":\[\{"host":"api.test".*?"count":\d/g)?.map((one) => one.at(-1))).toEqual(["2", "3"]);
  expect(text).toEndWith("event: end\ndata: {}\n\n");
});

test("loads of a list are means of ten seconds; another team's and one that is gone hide nothing of the others", async () => {
  const [one, gone] = [await plane.create(), await plane.create()];
  await plane.fetch("DELETE", `/v1/capsules/${gone.id}`);
  const guest = { memUsedBytes: 25n, memTotalBytes: 100n };
  const bucket = Math.floor((Date.now() - 30_000) / 10_000) * 10_000;
  plane.host.points = [10, 20].map((cpuPct, i) =>
    create(MetricPointSchema, { ...load, cpuPct, guest, timestampMs: BigInt(bucket + 1_000 * i) }),
  );
  const ids = [one.id, gone.id, `cl-${"z".repeat(25)}`, "nonsense"].join();
  const [told] = await eventsOf<Record<string, rest.Load[]>>(
    await plane.fetch("GET", `/v1/capsules/loads?ids=${ids}`),
    1,
  );
  expect(told).toEqual({ [one.id]: [{ at: bucket / 1_000, cpu_pct: 15, mem_pct: 25 }] });
  expect((await plane.fetch("GET", "/v1/capsules/loads")).status).toBe(400);
});

test("a range that is none of ours, and a sandbox that is gone, are refused", async () => {
  const { id } = await plane.create();
  expect((await plane.fetch("GET", `/v1/capsules/${id}/metrics?range=3w`)).status).toBe(400);
  await plane.fetch("DELETE", `/v1/capsules/${id}`);
  expect((await plane.fetch("GET", `/v1/capsules/${id}/metrics`)).status).toBe(404);
});

const logged = (cursor: bigint, level: string, message: string) =>
  create(LogEntrySchema, { cursor, level, message, source: "process", timestampMs: 1_000n, fields: { pid: "7" } });

test("a log's newest entries come first, a cursor leads on, and the level filters without losing the place", async () => {
  const { id } = await plane.create();
  plane.host.entries = [logged(1n, "info", "one"), logged(2n, "warn", "two"), logged(3n, "info", "three")];
  const ask = async (query: string) =>
    (await plane.json(200, "GET", `/v1/capsules/${id}/logs?${query}`)) as unknown as rest.CapsuleLogs;
  expect((await ask("limit=2")).entries.map((entry) => entry.message)).toEqual(["two", "three"]);
  expect((await ask("cursor=0&limit=2")).entries.map((entry) => entry.message)).toEqual(["one", "two"]);
  const grave = await ask("cursor=0&level=warn");
  expect(grave).toMatchObject({ next_cursor: 3, entries: [{ cursor: 2, source: "process", fields: { pid: "7" } }] });
  expect(await ask("cursor=3")).toMatchObject({ next_cursor: 3, entries: [] });
  for (const wrong of ["limit=0", "level=loud", "cursor=-1", "follow=maybe"])
    expect((await plane.fetch("GET", `/v1/capsules/${id}/logs?${wrong}`)).status).toBe(400);
});

test("a log that is followed tells what is new, once, and ends with the sandbox", async () => {
  const { id } = await plane.create();
  plane.host.entries = [logged(1n, "info", "one")];
  const answer = await plane.fetch("GET", `/v1/capsules/${id}/logs?follow=true`);
  expect(answer.headers.get("content-type")).toBe("text/event-stream");
  let text = "";
  for await (const chunk of answer.body!) {
    text += new TextDecoder().decode(chunk);
    if (text.includes('"two"')) await plane.fetch("DELETE", `/v1/capsules/${id}`);
    else plane.host.entries = [logged(1n, "info", "one"), logged(2n, "info", "two")];
  }
  expect(text.match(/"message":"(one|two)"/g)).toEqual(['"message":"one"', '"message":"two"']);
  expect(text).toEndWith("event: end\ndata: {}\n\n");
});
