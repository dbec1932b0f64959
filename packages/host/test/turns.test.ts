import { expect, test } from "bun:test";
import { Turns } from "../src/turns.ts";

test("no more than allowed work at once, in the order they came, and a turn given back twice is one", async () => {
  const turns = new Turns(2);
  let working = 0;
  let most = 0;
  const order: number[] = [];
  const work = async (number: number) => {
    using turn = await turns.take();
    order.push(number);
    most = Math.max(most, ++working);
    await Bun.sleep(2);
    working--;
    turn[Symbol.dispose]();
  };
  await Promise.all(Array.from({ length: 9 }, (_, number) => work(number)));
  expect([most, turns.busy]).toEqual([2, 0]);
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
});
