import { expect, test } from "bun:test";
import { Rounds } from "../src/rounds.ts";

test("a round comes by itself, one at a time, and again after one that failed; the end waits for it", async () => {
  let [begun, atOnce, most] = [0, 0, 0];
  const failures: unknown[] = [];
  const ends: (() => void)[] = [];
  const work = async () => {
    begun++;
    most = Math.max(most, ++atOnce);
    await new Promise<void>((resolve) => ends.push(resolve));
    atOnce--;
    if (begun === 1) throw new Error("the first fails");
  };
  const rounds = new Rounds(1, work, (err) => failures.push(err));
  const until = async (holds: () => boolean) => {
    while (!holds()) await Bun.sleep(1);
  };
  await until(() => begun === 1);
  expect(rounds.run()).toBe(rounds.run()); // shared with the one under way
  ends.shift()!();
  await until(() => begun === 2);
  expect([failures.length, most]).toEqual([1, 1]);
  let isOver = false;
  const over = rounds[Symbol.asyncDispose]().then(() => {
    isOver = true;
  });
  await Bun.sleep(5);
  expect(isOver).toBe(false);
  ends.shift()!();
  await over;
  expect(begun).toBe(2);
});
