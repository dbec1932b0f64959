import { expect, test } from "bun:test";
import { capsuleId, newSandboxId, parseSandboxId } from "@wrenn/contract";
import fc from "fast-check";

test("a new id has 25 base-36 characters and reads back with and without its prefix", () => {
  for (let i = 0; i < 1000; i++) {
    const id = newSandboxId();
    expect(id).toMatch(/^[0-9a-z]{25}$/);
    expect(parseSandboxId(capsuleId(id))).toBe(id);
    expect(parseSandboxId(id)).toBe(id);
  }
});

test("any other text is refused", () => {
  fc.assert(
    fc.property(fc.string(), (text) => parseSandboxId(text) === undefined || /^(cl-)?[0-9a-z]{25}$/.test(text)),
  );
  for (const text of ["", "cl-", "cl-x", "CL-0000000000000000000000000", `cl-${"0".repeat(26)}`, `${"0".repeat(25)}\n`])
    expect(parseSandboxId(text)).toBeUndefined();
});
