import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Stage } from "../scripts/stage.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-runner-"));
});
afterAll(() => rm(dir, { recursive: true }));

const runner = join(import.meta.dir, "../scripts/test.ts");

/** What `scripts/test.ts` prints for a file with these lines, and how it ends. */
async function run(name: string, body: string): Promise<{ code: number; last: string[]; out: string }> {
  const file = join(dir, `${name}.test.ts`);
  await writeFile(file, `import { expect, test } from "bun:test";\n${body}`);
  const child = Bun.spawn([process.execPath, runner, file], { cwd: dir, stdout: "pipe", stderr: "ignore" });
  const out = await new Response(child.stdout).text();
  return { code: await child.exited, last: out.trimEnd().split("\n").slice(-5), out };
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

test("what was skipped is listed with its reason", async () => {
  const { out } = await run("left", 'test.skip("one, skipped: no such device", () => {});\ntest("good", () => {});');
  expect(out).toMatch(
    /\nskipped:\n {2}\S*left\.test\.ts: one, skipped: no such device\n\n1 passed, 0 failed, 1 skipped\n$/,
  );
});

test("of parts side by side the first is shown as it speaks, the others whole, each when those before it have ended", () => {
  let log = "";
  const stage = new Stage((text) => {
    log += text;
  });
  const [one, two, three] = [stage.enter(), stage.enter(), stage.enter()];
  two.say("b1 ");
  one.say("a1 ");
  three.say("c1 ");
  three.leave();
  expect(log).toBe("a1 ");
  one.leave();
  expect(log).toBe("a1 b1 ");
  two.say("b2 ");
  two.leave();
  expect(log).toBe("a1 b1 b2 c1 ");
});

test("a run that is cut short shows what was held", () => {
  let log = "";
  const stage = new Stage((text) => {
    log += text;
  });
  stage.enter().say("a ");
  stage.enter().say("b ");
  stage.flush();
  expect(log).toBe("a b ");
});

test("parts run side by side, as many as are asked for; each is printed whole, and costs what it cost", async () => {
  const parts = [200, 100, 0].map((ms, at) => ({
    title: `part ${at}`,
    command: [process.execPath, "-e", `console.log("${at} begins"); await Bun.sleep(${ms}); console.log("${at} ends")`],
  }));
  const script = `
    import { runAll } from ${JSON.stringify(join(import.meta.dir, "../scripts/test-parts.ts"))};
    const results = await runAll(${JSON.stringify(parts)}, 2);
    console.log(JSON.stringify(results));`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  const lines = (await new Response(child.stdout).text()).split("\n").filter((line) => line !== "");
  const results = JSON.parse(lines.pop()!) as { title: string; passed: number; processorSeconds: number }[];
  expect(lines.map((line) => line.replace(/[\d.]+ s$/, "time"))).toEqual(
    [0, 1, 2].flatMap((at) => [`== part ${at}`, `${at} begins`, `${at} ends`, `== part ${at}: ok, time`]),
  );
  expect(results.map(({ title }) => title).sort()).toEqual(["part 0", "part 1", "part 2"]);
  for (const { passed, processorSeconds } of results) expect([passed, processorSeconds > 0]).toEqual([1, true]);
});
