import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-runner-"));
});
afterAll(() => rm(dir, { recursive: true }));

const runner = join(import.meta.dir, "../scripts/test.ts");

/** What `scripts/test.ts` prints for a file with these lines, and how it ends. */
async function run(name: string, body: string): Promise<{ code: number; last: string[] }> {
  const file = join(dir, `${name}.test.ts`);
  await writeFile(file, `import { expect, test } from "bun:test";\n${body}`);
  const child = Bun.spawn([process.execPath, runner, file], { cwd: dir, stdout: "pipe", stderr: "ignore" });
  const out = await new Response(child.stdout).text();
  return { code: await child.exited, last: out.trimEnd().split("\n").slice(-5) };
}

test("the end of the log names each failed test with its file, once, and the sums come last", async () => {
  const { code, last } = await run("some", 'test("good", () => {});\ntest("bad", () => expect(1).toBe(2));');
  expect(code).toBe(1);
  expect(last.slice(1)).toEqual([
    "failed:",
    expect.stringMatching(/^ {2}\S*some\.test\.ts: bad$/),
    "",
    "1 passed, 1 failed, 0 skipped",
  ]);
});

test("a file that cannot be loaded is a failure with a name", async () => {
  const { code, last } = await run("broken", 'throw new Error("not today");');
  expect(code).toBe(1);
  expect(last.join("\n")).toMatch(/failed:\n.*broken\.test\.ts.*\n\n0 passed, 1 failed, 0 skipped$/);
});

test("nothing failed: the sums alone", async () => {
  const { code, last } = await run("fine", 'test("good", () => {});');
  expect([code, last.at(-1), last.includes("failed:")]).toEqual([0, "1 passed, 0 failed, 0 skipped", false]);
});
