import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { checkTable, exceptions } from "../support/e2b-table.ts";
import { nothingLeft, repository, System } from "../support/system.ts";

/** The newest published ones when this was written; `e2b` for Python calls its versions otherwise than for JavaScript. */
const packages = ["e2b==2.63.0", "e2b-code-interpreter==2.11.5", "httpx"];
const environment = `${repository}.cache/e2b-python`;
/** Of the same time as the early version for JavaScript. */
const early = { packages: ["e2b==2.8.0"], environment: `${repository}.cache/e2b-python-early` };

type Outcome = { all: string[]; seen: string[]; failures: Record<string, string> };

let system: System;
let outcome: Outcome;

async function install(into: string, wanted: readonly string[]): Promise<void> {
  if (existsSync(`${into}/complete`)) return;
  await Bun.$`python3 -m venv --clear ${into}`.quiet();
  await Bun.$`${into}/bin/pip install --quiet --disable-pip-version-check ${wanted}`.quiet();
  await Bun.write(`${into}/complete`, "");
}

/** Runs a program that is told nothing but the variables; gives what it prints. */
async function run(python: string, program: string): Promise<string> {
  const { url, apiKey } = system.ready;
  const variables = { E2B_API_KEY: apiKey.replace(/^wrn_/, "e2b_"), E2B_API_URL: url, E2B_SANDBOX_URL: url };
  const child = Bun.spawn([`${python}/bin/python`, `${repository}test/e2b/${program}`], {
    env: { PATH: process.env.PATH ?? "", ...variables, E2B_VOLUME_API_URL: url },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [printed, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(said);
  return printed;
}

beforeAll(async () => {
  await Promise.all([install(environment, packages), install(early.environment, early.packages)]);
  system = await System.start("e2b-python");
  outcome = JSON.parse(await run(environment, "suite.py")) as Outcome;
}, 600_000);

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

test("the published SDK for Python finds everything as it expects it", () => {
  expect(outcome.failures).toEqual({});
});

test("an early version works the same", async () => {
  expect(await run(early.environment, "early.py")).toBe("early done\n");
}, 120_000);

test("every public method has worked, or docs/e2b.md says why not", async () => {
  const seen = new Set(outcome.seen);
  expect(outcome.all.filter((name) => !seen.has(name) && !(name in exceptions.python))).toEqual([]);
  await checkTable("python", { all: outcome.all, seen });
});
