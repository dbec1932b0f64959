/**
 * Every test: formatting, lint, types, import boundaries, then the fast tests, then those that boot real VMs. Prints what
 * runs as it runs, and closes with where the time went, what failed, what was skipped and the sums. `--check` and
 * `--fast` run what needs no VM, and the fast tests of that; other arguments choose test files by name, as for `bun test`.
 * TEST_LANES=1 runs one part after another.
 */
import { availableParallelism, totalmem } from "node:os";
import type { Sums } from "./test-output.ts";
import { cutShort, type Part, type Result, runAll } from "./test-parts.ts";

/** Half of the fast tests' time is waiting: one process more than there are processors keeps these busy. */
const workers = availableParallelism() + 1;

/** A part on VMs or in a browser needs about this much; the lab's host alone has 4 GiB. */
const bytesEach = 5 * 2 ** 30;

const args = process.argv.slice(2);

/** What keeps every processor busy by itself: one after another. */
// A path without "./" is a pattern to bun: "images" would choose test/vm/images.test.ts too.
const first: readonly Part[] = [
  { title: "format and lint", command: ["biome", "ci", "--reporter=summary", "."] },
  { title: "types", command: ["tsc", "--noEmit", "-p", "tsconfig.json"] },
  { title: "dashboard: types and format", command: ["bun", "packages/web/check.ts"] },
  {
    title: "fast tests",
    command: [
      "bun",
      "test",
      "--timeout",
      "120000",
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
      "./test/mounted.test.ts",
    ],
  },
];

/** What waits much and keeps one processor busy: side by side, the longest first. */
const beside: readonly Part[] = [
  { title: "tests on real VMs", command: ["bun", "test", "--timeout", "300000", "./test/vm"] },
  { title: "tests on an emulated KVM host", command: ["bun", "lab/main.ts", "test"] },
  { title: "tests in a browser", command: ["bun", "test", "--timeout", "240000", "./test/web"] },
  { title: "the API against its own document", command: ["bun", "test", "--timeout", "300000", "./test/spec"] },
  { title: "a fleet of processes", command: ["bun", "test", "--timeout", "120000", "./test/fleet"] },
];

const lanes = Number(process.env.TEST_LANES ?? Math.min(availableParallelism(), Math.floor(totalmem() / bytesEach)));

/** The end of the log: a table of times, names, and the sums as its last line. */
function conclude(results: readonly Result[]): boolean {
  const list = (word: string, names: readonly string[]) =>
    names.length > 0 && console.log(`\n${word}:\n${names.map((name) => `  ${name}`).join("\n")}`);
  const time = (seconds: number) => `${seconds.toFixed(1).padStart(7)} s`;
  console.log("\n   elapsed   processor");
  for (const { title, seconds, processorSeconds } of results)
    console.log(` ${time(seconds)}   ${time(processorSeconds)}  ${title}`);
  list(
    "skipped",
    results.flatMap(({ skips }) => skips),
  );
  list(
    "failed",
    results.flatMap(({ failures }) => failures),
  );
  const sum = (key: keyof Sums) => results.reduce((all, result) => all + result[key], 0);
  console.log(`\n${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`);
  return sum("failed") === 0 && sum("passed") > 0;
}

for (const signal of ["SIGTERM", "SIGINT"] as const)
  process.once(signal, () => {
    cutShort();
    process.exit(signal === "SIGTERM" ? 143 : 130);
  });

async function runChosen(): Promise<Result[]> {
  if (args[0] === "--check") return runAll(first, 1);
  if (args[0] === "--fast") return runAll(first.slice(-1), 1);
  if (args.length === 0) return [...(await runAll(first, 1)), ...(await runAll(beside, lanes))];
  return runAll([{ title: args.join(" "), command: ["bun", "test", "--timeout", "300000", ...args] }], 1);
}

process.exit(conclude(await runChosen()) ? 0 : 1);
