import { expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import type { SandboxId } from "@wrenn/contract";
import fc from "fast-check";
import { usageOf } from "../src/metrics/process.ts";
import { Sampler } from "../src/metrics/sampler.ts";
import { type Point, Series } from "../src/metrics/series.ts";
import { FakeHost, quiet } from "./support/host.ts";

const point = (timestampMs: number, cpuPct = 0): Point => ({ timestampMs, cpuPct, memBytes: 1, diskBytes: 2 });
const secondMs = 1_000;

function filled(seconds: number, startMs = 300_000): Series {
  const series = new Series();
  for (let i = 0; i < seconds; i++) series.add(point(startMs + i * secondMs, i % 2 === 0 ? 10 : 30));
  return series;
}

test("a span of ten minutes is told by the second, a longer one in means", () => {
  const series = filled(3 * 3600);
  const end = 300_000 + 3 * 3600 * secondMs;
  expect(series.between(end - 600 * secondMs, end).length).toBe(600);
  const hour = series.between(end - 3600 * secondMs, end);
  expect(hour.length).toBeGreaterThan(110);
  expect(hour.length).toBeLessThanOrEqual(120);
  expect(hour.every(({ cpuPct, diskBytes }) => cpuPct === 20 && diskBytes === 2)).toBe(true);
  expect(series.between(0, end).length).toBeGreaterThanOrEqual(35);
});

test("a sandbox that is young has its whole life told by the second", () => {
  expect(filled(20).between(0, Number.MAX_SAFE_INTEGER).length).toBe(20);
});

test("what a guest was never asked stays unknown in every tier, and what it said is kept", () => {
  const guest = { cpuPct: 1, memUsedBytes: 2, memCacheBytes: 3, memTotalBytes: 4 };
  const all = { ...guest, diskUsedBytes: 5, diskTotalBytes: 6, netRxBytes: 7, netTxBytes: 8 };
  const series = new Series();
  series.add(point(1_000));
  series.add({ ...point(2_000), guest: all });
  expect(series.between(0, 9_000).map((one) => one.guest)).toEqual([undefined, all]);
});

test("a series that was written down says the same afterwards", () => {
  const steps = fc.array(fc.record({ ms: fc.integer({ min: 1, max: 400_000 }), cpu: fc.double({ min: 0, max: 100 }) }));
  fc.assert(
    fc.property(steps, fc.nat(1 << 30), (all, start) => {
      const series = new Series();
      let now = 0;
      for (const { ms, cpu } of all) {
        now += ms;
        series.add(point(now, cpu));
      }
      const again = Series.decode(series.encode())!;
      expect(again.between(start, now)).toEqual(series.between(start, now));
    }),
    { numRuns: 50 },
  );
});

test("bytes that are no series are refused", () => {
  const bytes = filled(10).encode();
  for (const broken of [bytes.slice(1), bytes.slice(0, -8), new Uint8Array(8).fill(0xff)])
    expect(Series.decode(broken)).toBeUndefined();
});

test("the usage of a process grows with its work, and is unknown when it is gone", () => {
  const before = usageOf(process.pid)!;
  const worked = () => usageOf(process.pid)!.cpuMs > before.cpuMs;
  for (const until = performance.now() + 4_000; performance.now() < until && !worked(); );
  expect(worked()).toBe(true);
  expect(before.memBytes).toBeGreaterThan(2 ** 20);
  expect(usageOf(1 << 23)).toBeUndefined();
});

/** A host with a sampler, whose machines use half of one processor. */
async function sampled() {
  const host = await FakeHost.start();
  const usage = () => ({ cpuMs: Date.now() / 2, memBytes: 5 });
  const start = () => Sampler.start(host.sandboxes, quiet, usage);
  return { host, start };
}
const everything = (sampler: Sampler, host: FakeHost, id: SandboxId) =>
  sampler.points(host.sandboxes.find(id), 0, Date.now() + secondMs);

test("a running sandbox has a point at once, with the guest's own figures", async () => {
  const { host, start } = await sampled();
  await using _ = host;
  await using sampler = await start();
  const { id } = await host.create();
  const points = await everything(sampler, host, id);
  expect(points).toMatchObject([{ memBytes: 5, guest: { memUsedBytes: 1_000, diskTotalBytes: 2_000 } }]);
  expect(points[0]!.diskBytes).toBeGreaterThan(0);
});

test("points outlive a pause and a restart of the agent, and end with the sandbox", async () => {
  const { host, start } = await sampled();
  await using _ = host;
  const first = await start();
  const { id } = await host.create();
  expect((await everything(first, host, id)).length).toBe(1);
  await host.sandboxes.pause(id);
  expect((await everything(first, host, id)).length).toBe(1);
  await first[Symbol.asyncDispose]();
  await host.restart();
  await using second = await start();
  expect((await everything(second, host, id)).length).toBe(1);
  await host.sandboxes.destroy(id);
  await Bun.sleep(20);
  expect(await readdir(`${host.dir}/metrics`)).toEqual([]);
});

test("an idle guest is left asleep, one in use is asked", async () => {
  const { host, start } = await sampled();
  await using _ = host;
  await using sampler = await start();
  const { id } = await host.create();
  const sandbox = host.sandboxes.find(id);
  sandbox.record.lastActiveAtMs = 0;
  sampler.sample(); // meets it
  const later = Date.now() + 60_000;
  const { now } = Date;
  try {
    Date.now = () => later;
    sampler.sample();
    await Bun.sleep(20);
    expect(host.world.asked).toBe(0);
    sandbox.touch();
    sampler.sample();
    while (host.world.asked === 0) await Bun.sleep(5);
    const points = await everything(sampler, host, id);
    expect(points[0]!.cpuPct).toBe(0); // nothing to compare it with
    expect(points.at(-1)!.cpuPct).toBeCloseTo(50);
  } finally {
    Date.now = now;
  }
});
