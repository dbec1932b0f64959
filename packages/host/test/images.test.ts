import { expect, test } from "bun:test";
import { compareVersions } from "../src/images.ts";

test("versions are compared as numbers, a longer one is the higher, none is the lowest", () => {
  const sorted = ["", "5.10.1", "6.1.9", "6.1.192", "6.1.192.1", "6.12.0"];
  expect([...sorted].reverse().sort(compareVersions)).toEqual(sorted);
});
