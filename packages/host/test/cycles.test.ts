import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { FakeHost, nothing } from "./support/host.ts";

const openFiles = () => readdirSync("/proc/self/fd").length;

const heapMib = () => {
  Bun.gc(true);
  return process.memoryUsage().heapUsed / 2 ** 20;
};

test("500 sandboxes that come and go, every fifth with a pause and a checkpoint, leave no file, row, descriptor or memory", async () => {
  await using host = await FakeHost.start();
  const cycle = async (number: number) => {
    const { id } = await host.create();
    if (number % 5 === 0) {
      const { id: checkpoint } = await host.sandboxes.checkpoint(id);
      await host.sandboxes.pause(id);
      await host.sandboxes.resume(id, 2);
      await host.sandboxes.deleteSnapshot(checkpoint);
    }
    await host.sandboxes.destroy(id);
  };
  for (let i = 0; i < 50; i++) await cycle(i); // what is opened and compiled once
  const before = { files: openFiles(), heap: heapMib() };
  for (let i = 0; i < 500; i += 5) await Promise.all([0, 1, 2, 3, 4].map((more) => cycle(i + more)));
  expect(await host.leftovers()).toEqual(nothing);
  // Connections that a fetch keeps open for the next are not leaks, and close by themselves.
  expect(openFiles() - before.files).toBeLessThan(20);
  expect(heapMib() - before.heap).toBeLessThan(16);
}, 120_000);
