import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { nothingLeft, System, wrennProgram } from "../support/system.ts";

/** The README's commands and programs, typed by a machine: what does not run does not stay there. */
const root = join(import.meta.dir, "../..");
const blocks = [...readFileSync(`${root}/README.md`, "utf8").matchAll(/^```(sh|ts)\n(.*?)^```/gms)].map(
  ([, kind, text]) => ({ kind: kind!, text: text! }),
);

/**
 * `wrenn up` runs already, a shell needs a person (`cli.test.ts` types into one), and emptying a host another one
 * (`test/fleet/move.test.ts` has three). `make` targets have their own tests.
 */
const heldElsewhere = /^wrenn (up|shell|host drain)\b/;
const commands = blocks.filter(
  ({ kind, text }) => kind === "sh" && /^[^#\n]*\bwrenn /m.test(text) && !/^make /m.test(text),
);
const programs = blocks.filter(({ kind, text }) => kind === "ts" && text.includes('from "wrenn"'));

let system: System;
beforeAll(async () => {
  system = await System.start("readme");
});
afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

async function run(argv: readonly string[], input?: string) {
  const child = Bun.spawn([...argv], {
    cwd: root,
    env: { ...system.env, PATH: `${dirname(wrennProgram)}:${process.env.PATH}` },
    stdin: new Blob([input ?? ""]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

test("the README has commands and a program to hold", () => {
  expect(commands.length).toBeGreaterThanOrEqual(3);
  expect(programs.length).toBeGreaterThanOrEqual(1);
});

describe("the README's commands", () => {
  test("run one after another, in one shell", async () => {
    const lines = commands.flatMap(({ text }) => text.split("\n")).filter((line) => !heldElsewhere.test(line));
    const { code, stdout, stderr } = await run(["bash", "-ex"], lines.join("\n"));
    expect({ code, stderr: stderr.slice(-2_000) }).toMatchObject({ code: 0 });
    expect(stdout).toContain("└── clean");
    expect(stdout).toContain("first\n");
  });
});

for (const [index, { text }] of programs.entries())
  test(`the README's program ${index + 1} runs as it stands and prints what it says`, async () => {
    const file = `${root}/test/.readme-${index}.ts`; // inside the workspace, where "wrenn" is found
    await writeFile(file, text);
    try {
      const { code, stdout, stderr } = await run(["bun", file]);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      for (const [, expected] of text.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)) expect(stdout).toContain(expected!);
    } finally {
      await rm(file, { force: true });
    }
  });
