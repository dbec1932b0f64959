import { expect, test } from "bun:test";
import { isAnswer } from "../src/lib/terminal/answers.ts";

const esc = "\u001b";

test("what a terminal says by itself is told from what is typed", () => {
  for (const answer of ["[?1;2c", "[>0;276;0c", "[0n", "[24;80R", "[8;24;80t", "[?2026;2$y", "]11;rgb:0000/0000/0000", "P1$r0m"])
    expect(isAnswer(esc + answer)).toBe(true);
  for (const typed of ["c", "ls -l\r", esc, `${esc}[A`, `${esc}OA`, `${esc}[15~`, `${esc}[200~pasted`, `${esc}[1;5C`, `${esc}n`])
    expect(isAnswer(typed)).toBe(false);
});
