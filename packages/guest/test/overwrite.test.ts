import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { overwrite } from "../src/identity/overwrite.ts";

const folder = mkdtempSync(join(tmpdir(), "wrenn-overwrite-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, "run/machine-id");

test("a file is made with its folder, and later texts of any length replace the one before", () => {
  overwrite(file, "first\n", 0o444);
  expect(statSync(file).mode & 0o777).toBe(0o444);
  const { ino } = statSync(file);
  chmodSync(file, 0o644); // tests may run without root, whom no mode stops
  for (const text of ["2nd..\n", "", "a longer text than before\n", "short\n"]) {
    overwrite(file, text);
    expect(readFileSync(file, "utf8")).toBe(text);
  }
  expect(statSync(file).ino).toBe(ino);
});

test("what cannot be written is told", () => {
  expect(() => overwrite(`${file}/below-a-file`, "x")).toThrow(/ENOTDIR|EEXIST/);
});
