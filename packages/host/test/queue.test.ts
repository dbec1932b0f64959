import { expect, test } from "bun:test";
import { Queue } from "../src/queue.ts";

test("a reader gets what was pushed before it came and while it waits, in order, and ends with the queue", async () => {
  const queue = new Queue<number>();
  queue.push(1);
  const read: number[] = [];
  const reading = (async () => {
    for await (const item of queue) read.push(item);
  })();
  queue.push(2);
  await Bun.sleep(0); // it waits now
  queue.push(3);
  await Bun.sleep(0);
  expect(read).toEqual([1, 2, 3]);
  queue.push(4);
  queue.close();
  await reading;
  expect(read).toEqual([1, 2, 3, 4]);
});

test("one that was closed before anybody read gives what it holds and ends", async () => {
  const queue = new Queue<number>();
  queue.push(1);
  queue.close();
  expect(await Array.fromAsync(queue)).toEqual([1]);
});
