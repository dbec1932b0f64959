import { expect, test } from "bun:test";
import { tmpdir } from "node:os";
import type { WrennError } from "@wrenn/contract";
import { Admission } from "../src/admission.ts";
import { FakeHost, nothing, spec } from "./support/host.ts";

const codeOf = (thrown: unknown) => (thrown as WrennError).code;

test("machines that are being started count with all their memory, until they run", async () => {
  const admission = new Admission(tmpdir(), () => 1_000);
  const first = await admission.admit({ memoryMib: 500 });
  const thrown = await admission.admit({ memoryMib: 500 }).catch((error) => error);
  expect(thrown).toMatchObject({ code: "no_hosts_available", message: expect.stringContaining("244 MiB") });
  expect((thrown as WrennError).remedy).toContain("pause or remove");
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  (await admission.admit({ memoryMib: 500 }))[Symbol.dispose]();
});

test("a disk that the host does not have is refused, and takes no memory from the next", async () => {
  const admission = new Admission(tmpdir(), () => 1_000);
  expect(codeOf(await admission.admit({ memoryMib: 700 }, 2 ** 30).catch((error) => error))).toBe(
    "insufficient_storage",
  );
  (await admission.admit({ memoryMib: 700 }))[Symbol.dispose]();
});

test("twenty at once on a host with room for five: five run, the others are told, and nothing is left of them", async () => {
  await using host = await FakeHost.start();
  const world = host.world;
  const perSandbox = spec().memoryMib;
  // Each machine of the fake takes its memory when it is there.
  const total = 5 * perSandbox + 256;
  host.setAvailable(() => total - world.machines.size * perSandbox);
  await host.sandboxes.destroy((await host.create()).id); // freezes the template
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => host.create()));
  const refused = results.filter((result) => result.status === "rejected");
  expect(refused.map(({ reason }) => codeOf(reason))).toEqual(Array(refused.length).fill("no_hosts_available"));
  expect(world.machines.size).toBe(20 - refused.length);
  expect(world.machines.size).toBeLessThanOrEqual(5);
  expect(world.machines.size).toBeGreaterThan(0);
  for (const { id } of host.sandboxes.list()) await host.sandboxes.destroy(id);
  expect(await host.leftovers()).toEqual(nothing);
});
