import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { flagsToServe, membership, wishOf } from "../src/fleet/membership.ts";

const text = { type: "string" } as const;
const read = (args: string[]) =>
  parseArgs({ args, options: { dir: text, listen: text, register: text, address: text, dial: { type: "boolean" } } })
    .values;

test("a program that takes over does not register with a token that is used up, and serves where the former did", async () => {
  const dir = await mkdtemp(`${tmpdir()}/wrenn-member-`);
  try {
    const began = read([
      "--register",
      "used",
      "--address",
      "10.0.0.7:50051",
      "--dir",
      dir,
      "--listen",
      "0.0.0.0:50051",
    ]);
    const goesOn = read(flagsToServe(began));
    expect(goesOn).toEqual({ dir, listen: "0.0.0.0:50051" } as typeof goesOn);
    // Nothing answers at this address: an attempt to register would throw.
    const wish = wishOf(goesOn, { WRENN_CP_URL: "http://127.0.0.1:1" });
    expect(await membership(dir, wish, { cpuCores: 1, memoryMib: 512 })).toBeUndefined();
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
