import { expect, test } from "bun:test";
import { appendFile } from "node:fs/promises";
import type { SandboxId } from "@wrenn/contract";
import { DiskWatch } from "../src/disk-watch.ts";
import { FakeHost, quiet } from "./support/host.ts";

/** A host, and a watch that is told how much disk is free and looks only when asked. */
async function watched() {
  const host = await FakeHost.start();
  let free = 10_000;
  const watch = new DiskWatch(host.sandboxes, quiet, async () => free);
  const grow = async (id: SandboxId, bytes: number) => {
    const { machine } = host.sandboxes.find(id);
    await appendFile(machine.disk.path, new Uint8Array(bytes).fill(32)); // spaces, which a fake layer can end with
  };
  return {
    ...{ host, watch, grow },
    setFree: (mib: number) => {
      free = mib;
    },
    states: () => Object.fromEntries(host.sandboxes.list().map((record) => [record.id, record.state])),
    [Symbol.asyncDispose]: async () => {
      await watch[Symbol.asyncDispose]();
      await host[Symbol.asyncDispose]();
    },
  };
}

test("on a disk that is nearly full the sandbox that fills it is paused and says why; one that does not write runs on", async () => {
  await using at = await watched();
  const [writer, idle] = [await at.host.create(), await at.host.create()];
  at.setFree(1_000);
  await at.watch.look();
  await at.grow(writer.id, 1 << 20);
  at.setFree(100);
  await at.watch.look();
  expect(at.states()).toEqual({ [writer.id]: "paused", [idle.id]: "running" });
  expect(at.host.sandboxes.find(writer.id).record.reason).toContain("nearly full");
  at.setFree(10_000);
  await at.host.sandboxes.resume(writer.id, 2);
  expect(at.states()[writer.id]).toBe("running");
});

test("where there is room nobody is paused, however fast it writes", async () => {
  await using at = await watched();
  const { id } = await at.host.create();
  for (const free of [1_000, 600]) {
    at.setFree(free);
    await at.watch.look();
    await at.grow(id, 4 << 20);
  }
  await at.watch.look();
  expect(at.states()).toEqual({ [id]: "running" });
});

test("a sandbox that cannot be paused stands still until there is room, and then runs on", async () => {
  await using at = await watched();
  const { id } = await at.host.create();
  const machine = [...at.host.world.machines.values()][0]!;
  at.setFree(1_000);
  await at.watch.look();
  await at.grow(id, 1 << 20);
  at.host.world.before = (effect) => {
    if (effect === "vm.capture") throw new Error("no space left on device");
  };
  at.setFree(100);
  await at.watch.look();
  expect([at.states()[id], machine.isStopped]).toEqual(["running", true]);
  at.setFree(10_000);
  await at.watch.look();
  expect([at.states()[id], machine.isStopped]).toEqual(["running", false]);
});
