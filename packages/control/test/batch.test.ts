import { describe, expect, test } from "bun:test";
import { Batch } from "../src/batch.ts";

describe("a batch", () => {
  test("lets the first go at once, and gathers what comes meanwhile", async () => {
    const runs: number[][] = [];
    const gate = Promise.withResolvers<void>();
    const batch = new Batch<number, number>(async (inputs) => {
      runs.push([...inputs]);
      if (runs.length === 1) await gate.promise;
      return inputs.map((input) => input * 2);
    });
    const all = [1, 2, 3, 4].map((input) => batch.ask(input));
    expect(runs).toEqual([[1]]);
    gate.resolve();
    expect(await Promise.all(all)).toEqual([2, 4, 6, 8]);
    expect(runs).toEqual([[1], [2, 3, 4]]);
    expect(await batch.ask(5)).toBe(10);
  });

  test("that fails is repeated for each, so that the others succeed and each failure is its own", async () => {
    const batch = new Batch<number, number>(async (inputs) => {
      const bad = inputs.find((input) => input < 0);
      if (bad !== undefined) throw new Error(`bad ${bad}`);
      return inputs;
    });
    const all = await Promise.allSettled([1, -1, 2, -2].map((input) => batch.ask(input)));
    expect(all.map((one) => (one.status === "fulfilled" ? one.value : one.reason.message))).toEqual([
      1,
      "bad -1",
      2,
      "bad -2",
    ]);
  });
});
