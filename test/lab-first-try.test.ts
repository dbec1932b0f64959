import { expect, test } from "bun:test";
import { FirstTry } from "../lab/first-try.ts";

test("a first try names the files that failed, and its failures do not count", () => {
  const output = `lab/tests/a.test.ts:\n(pass) one [1ms]\n\nlab/tests/b.test.ts:\n(fail) two [1ms]\n(pass) three\n
lab/tests/c.test.ts:\n(fail) (unnamed) [2ms]\n\n2 tests failed:\n(fail) two [1ms]\n(fail) (unnamed) [2ms]\n\n 2 pass\n 2 fail\n`;
  let printed = "";
  const first = new FirstTry((text) => {
    printed += text;
  });
  const bytes = new TextEncoder().encode(output);
  for (let at = 0; at < bytes.length; at += 7) first.take(bytes.subarray(at, at + 7)); // lines in pieces
  first.end();
  expect(first.failed).toEqual(["./lab/tests/b.test.ts", "./lab/tests/c.test.ts"]);
  expect(printed).not.toMatch(/^\(fail\)|^\s*\d+ fail\b/m);
  expect(printed).toContain(" 2 pass\n 2 failed at the first try\n");
  expect(printed.split("\n").length).toBe(output.split("\n").length);
});
