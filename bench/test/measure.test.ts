import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { judge, type Pledge } from "../ledger.ts";
import { figure, interleaved, limitOf, summary, targetText, used } from "../measure.ts";

describe("summary", () => {
  test("gives median, tail and extremes of an even and an odd number of runs", () => {
    expect(summary([4, 1, 3, 2])).toEqual({ runs: 4, median: 2.5, p95: 3.8499999999999996, min: 1, max: 4 });
    expect(summary([5, 1, 3]).median).toBe(3);
    expect(summary([7])).toEqual({ runs: 1, median: 7, p95: 7, min: 7, max: 7 });
  });

  test("takes the low end as the bad tail where higher is better", () => {
    const values = Array.from({ length: 101 }, (_, i) => i);
    expect(summary(values, "lower").p95).toBe(95);
    expect(summary(values, "higher").p95).toBe(5);
  });

  test("does not depend on the order of the measurements", () => {
    const list = fc.array(fc.double({ noNaN: true, min: 0, max: 1e6 }), { minLength: 1 });
    fc.assert(fc.property(list, (values) => Bun.deepEquals(summary(values), summary([...values].reverse()))));
  });

  test("refuses to sum up nothing", () => expect(() => summary([])).toThrow("nothing"));
});

describe("interleaved", () => {
  test("runs every side once a round and leaves the warm-up out", async () => {
    const log: string[] = [];
    let clock = 0;
    const side = (name: string) => async () => {
      log.push(name);
      return clock++;
    };
    const found = await interleaved({ a: side("a"), b: side("b") }, { runs: 3, warmUps: 2 });
    expect(log).toHaveLength(10);
    for (let round = 0; round < 5; round++) expect(log.slice(round * 2, round * 2 + 2).sort()).toEqual(["a", "b"]);
    expect([...found.a, ...found.b].sort((a, b) => a - b)).toEqual([4, 5, 6, 7, 8, 9]);
  });

  test("changes the order of the sides from round to round", async () => {
    const order: string[] = [];
    const side = (name: string) => async () => order.push(name);
    const dice = [0.9, 0.1]; // keeps, then swaps
    let at = 0;
    await interleaved({ a: side("a"), b: side("b") }, { runs: 2, warmUps: 0, random: () => dice[at++ % 2]! });
    expect(order).toEqual(["a", "b", "b", "a"]);
  });
});

describe("targets", () => {
  test("are absolute, or made of the baseline", () => {
    expect(limitOf({ absolute: 5 }, undefined)).toBe(5);
    expect(limitOf({ times: 1.2 }, 100)).toBeCloseTo(120);
    expect(limitOf({ plus: 3 }, 20)).toBe(23);
    expect(() => limitOf({ times: 2 }, undefined)).toThrow("baseline");
  });

  test("are used to the same share whichever way the figure counts", () => {
    expect(used(50, 100, "lower")).toBe(0.5);
    expect(used(200, 100, "higher")).toBe(0.5);
  });

  test("read as a person writes them", () => {
    expect(targetText({ times: 0.6 }, "higher", "MiB/s")).toBe("≥ 0.6 × baseline");
    expect(targetText({ plus: 3 }, "lower", "ms")).toBe("≤ baseline + 3 ms");
    expect(targetText({ absolute: 1000 }, "higher", "/s")).toBe("≥ 1,000 /s");
  });
});

describe("judge", () => {
  const speed: Pledge = { id: "x", text: "x", unit: "MiB/s", better: "higher", target: { times: 0.6 } };

  test("keeps a promise exactly at its limit and misses it beyond", () => {
    expect(judge(speed, { values: [60], baseline: [100] })).toMatchObject({ ok: true, ratio: 0.6, limit: 60, used: 1 });
    expect(judge(speed, { values: [59], baseline: [100] })).toMatchObject({ ok: false, ratio: 0.59 });
  });

  test("has no verdict without a target, and refers to a bare program where there is one", () => {
    const { target: _, ...recorded } = speed;
    const outcome = judge(recorded, { values: [30], reference: { what: "bare", values: [20, 40, 60] } });
    expect(outcome).toMatchObject({ ok: null, used: null, baseline: null, reference: { value: 40, ratio: 0.75 } });
  });

  test("takes a baseline that was measured elsewhere", () =>
    expect(judge({ ...speed, given: 50 }, { values: [40] })).toMatchObject({ baseline: 50, ratio: 0.8, ok: true }));
});

test("figures have as many digits as a reader uses", () =>
  expect([0.0321, 0.5, 1.234, 21.04, 345.6, 3021.4, 7].map(figure)).toEqual([
    "0.032",
    "0.50",
    "1.23",
    "21.0",
    "346",
    "3,021",
    "7",
  ]));
