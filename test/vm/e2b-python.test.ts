import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { checkTable, exceptions } from "../support/e2b-table.ts";
import { nothingLeft, repository, System } from "../support/system.ts";

/** The newest published ones when this was written; `e2b` for Python calls its versions otherwise than for JavaScript. */
const packages = ["e2b==2.63.0", "e2b-code-interpreter==2.11.5", "httpx"];
const environment = `${repository}.cache/e2b-python`;

type Outcome = { all: string[]; seen: string[]; failures: Record<string, string> };

let system: System;
let outcome: Outcome;

beforeAll(async () => {
  if (!existsSync(`${environment}/complete`)) {
    await Bun.$`python3 -m venv --clear ${environment}`.quiet();
    await Bun.$`${environment}/bin/pip install --quiet --disable-pip-version-check ${packages}`.quiet();
    await Bun.write(`${environment}/complete`, "");
  }
  system = await System.start("e2b-python");
  const { url, apiKey } = system.ready;
  const variables = { E2B_API_KEY: apiKey.replace(/^wrn_/, "e2b_"), E2B_API_URL: url, E2B_SANDBOX_URL: url };
  const child = Bun.spawn([`${environment}/bin/python`, `${repository}test/e2b/suite.py`], {
    env: { PATH: process.env.PATH ?? "", ...variables },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [printed, said] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(said);
  outcome = JSON.parse(printed) as Outcome;
}, 300_000);

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

test("the published SDK for Python finds everything as it expects it", () => {
  expect(outcome.failures).toEqual({});
});

test("every public method has worked, or docs/e2b.md says why not", async () => {
  const seen = new Set(outcome.seen);
  expect(outcome.all.filter((name) => !seen.has(name) && !(name in exceptions.python))).toEqual([]);
  await checkTable("python", { all: outcome.all, seen });
});
