/**
 * Every test: formatting, lint, types, import boundaries, then the fast tests, then those that boot real VMs. Prints what
 * runs as it runs, and closes with what failed and the sums. Arguments choose test files by name, as for `bun test`.
 */
import { availableParallelism } from "node:os";
import { spawn } from "bun";
import { failuresIn } from "./failures.ts";

type Sums = { passed: number; failed: number; skipped: number };
type Result = Sums & { failures: readonly string[] };
type Part = { title: string; command: readonly string[] };

/** Half of the fast tests' time is waiting: one process more than there are processors keeps these busy. */
const workers = availableParallelism() + 1;

const only = process.argv.slice(2);
// A path without "./" is a pattern to bun: "images" would choose test/vm/images.test.ts too.
const parts: readonly Part[] = [
  { title: "format and lint", command: ["biome", "ci", "--reporter=summary", "."] },
  { title: "types", command: ["tsc", "--noEmit", "-p", "tsconfig.json"] },
  { title: "dashboard: types and format", command: ["bun", "packages/web/check.ts", "--format"] },
  {
    title: "fast tests",
    command: [
      "bun",
      "test",
      "--timeout",
      "60000",
      `--parallel=${workers}`,
      "--no-isolate", // each worker starts one PostgreSQL, not one for each file
      "./packages",
      "./images",
      "./bench",
      "./test/boundaries.test.ts",
      "./test/docs.test.ts",
      "./test/defects.test.ts",
      "./test/deploy.test.ts",
      "./test/runner.test.ts",
      "./test/lab-first-try.test.ts",
    ],
  },
  { title: "a fleet of processes", command: ["bun", "test", "--timeout", "60000", "./test/fleet"] },
  { title: "the API against its own document", command: ["bun", "test", "--timeout", "300000", "./test/spec"] },
  { title: "tests on real VMs", command: ["bun", "test", "--timeout", "300000", "./test/vm"] },
  { title: "tests in a browser", command: ["bun", "test", "--timeout", "240000", "./test/web"] },
  { title: "tests on an emulated KVM host", command: ["bun", "lab/main.ts", "test"] },
];

/** Runs one part; its output goes through. A part that prints no sums counts as one test. */
async function run({ title, command }: Part): Promise<Result> {
  const started = performance.now();
  console.log(`\n== ${title}`);
  const child = spawn([...command], { stdout: "pipe", stderr: "pipe", env: { ...process.env, FORCE_COLOR: "0" } });
  const [out, err] = await Promise.all([through(child.stdout), through(child.stderr)]);
  const code = await child.exited;
  const ending = code === 0 ? "ok" : `failed (exit ${code})`;
  console.log(`== ${title}: ${ending}, ${((performance.now() - started) / 1000).toFixed(1)} s`);
  const found = failuresIn(out + err);
  const failures = code !== 0 && found.length === 0 ? [`${title}: exit ${code}`] : found;
  return { ...sumsOf(out + err, command, code), failures };
}

function sumsOf(output: string, command: readonly string[], code: number): Sums {
  const sum = (word: string) =>
    [...output.matchAll(new RegExp(`^\\s*(\\d+) ${word}\\b`, "gm"))].reduce((all, [, one]) => all + Number(one), 0);
  const sums = { passed: sum("pass"), failed: sum("fail"), skipped: sum("skip") };
  if (command[1] !== "test" && sums.passed + sums.failed + sums.skipped === 0)
    return code === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 };
  // A runner that dies prints no failing test, yet nothing has passed.
  return code !== 0 && sums.failed === 0 ? { ...sums, failed: 1 } : sums;
}

async function through(stream: ReadableStream<Uint8Array>): Promise<string> {
  let all = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    process.stdout.write(text);
    all += text;
  }
  return all;
}

const chosen =
  only.length > 0 ? [{ title: only.join(" "), command: ["bun", "test", "--timeout", "300000", ...only] }] : parts;
const total: Sums = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];
for (const part of chosen) {
  const result = await run(part);
  for (const key of ["passed", "failed", "skipped"] as const) total[key] += result[key];
  failures.push(...result.failures);
}
if (failures.length > 0) console.log(`\nfailed:\n${failures.map((failure) => `  ${failure}`).join("\n")}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
