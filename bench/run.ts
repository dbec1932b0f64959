#!/usr/bin/env bun
import { mkdir, readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import type { Context, Suite } from "./context.ts";
import { type Finding, judge, type Outcome } from "./ledger.ts";
import { figure } from "./measure.ts";
import { plot } from "./plot.ts";
import { isBusy, load, markdown, plainTable, type Setting } from "./report.ts";
import { suites } from "./suites/index.ts";
import { World } from "./world.ts";

const help = `Measures every promise against its baseline, and writes bench/results/latest.{json,md,svg}.

Usage: bun bench/run.ts [--only NAME,...] [--runs N] [--first] [--strict] [--list]

  --only NAME,...  suites or promises; a promise's name may be its beginning. The rows of the others stay as they are
  --runs N         measure each this often, instead of as often as suits it
  --first          also measure the first start in a fresh clone and data folder (minutes)
  --strict         exit with 1 when a target is missed
  --list           what there is
`;

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    runs: { type: "string" },
    ...{
      first: { type: "boolean" },
      strict: { type: "boolean" },
      list: { type: "boolean" },
      help: { type: "boolean" },
    },
  },
});
if (flags.runs !== undefined && !/^[1-9]\d{0,5}$/.test(flags.runs))
  fail(`--runs "${flags.runs}" is no whole number above 0`);
const only = flags.only?.split(",").filter(Boolean);

/** Whether a promise of a suite is asked for. */
const isWanted = (suite: Suite, id: string): boolean =>
  !only || only.includes(suite.name) || only.some((name) => id === name || id.startsWith(`${name}-`));

function fail(message: string): never {
  console.error(`error: ${message}\n\n${help}`);
  process.exit(2);
}

function list(): void {
  for (const suite of suites) {
    console.log(suite.name);
    for (const { id, text } of suite.pledges) console.log(`  ${id.padEnd(24)} ${text}`);
  }
}

/** Runs suites one after another; a suite that fails is told of and does not stop the others. */
class Run implements AsyncDisposable {
  readonly outcomes: Outcome[] = [];
  readonly failures: string[] = [];
  readonly leftOut: string[] = [];
  #world: Promise<World> | undefined;
  #end: Promise<void> | undefined;

  async suite(suite: Suite): Promise<void> {
    const lacking = suite.lacks?.();
    if (lacking) return void this.leftOut.push(`${suite.name}: ${lacking}`);
    const started = performance.now();
    try {
      await suite.run(this.#context(suite));
    } catch (thrown) {
      this.failures.push(`${suite.name}: ${thrown instanceof Error ? thrown.message : thrown}`);
      console.error(`[${suite.name}] failed:`, thrown);
    }
    console.log(`[${suite.name}] ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }

  #context(suite: Suite): Context {
    return {
      runs: (normal) => Number(flags.runs ?? normal),
      say: (text) => console.log(`[${suite.name}] ${text}`),
      keep: (id, finding) => this.#keep(suite, id, finding),
      wants: (...ids) => ids.some((id) => isWanted(suite, id)),
      world: () => {
        this.#world ??= World.start();
        return this.#world;
      },
      first: flags.first === true,
    };
  }

  #keep(suite: Suite, id: string, finding: Finding): void {
    if (!isWanted(suite, id)) return;
    const outcome = judge(suite.pledges.find((one) => one.id === id)!, finding);
    this.outcomes.push(outcome);
    const { value, unit, ratio, target, ok, note } = outcome;
    const against = ratio === null ? "" : `, ${figure(ratio)} × baseline`;
    const verdict = ok === null ? "" : `: ${ok ? "kept" : "MISSED"} (${target})`;
    console.log(`[${suite.name}] ${id} ${figure(value)} ${unit}${against}${verdict}${note ? `. ${note}` : ""}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#end ??= (async () => (await this.#world?.catch(() => undefined))?.[Symbol.asyncDispose]())();
    return this.#end;
  }
}

async function setting(): Promise<Setting> {
  const git = Bun.spawnSync(["git", "-C", import.meta.dir, "rev-parse", "--short", "HEAD"]);
  const kernel = (await readFile("/proc/sys/kernel/osrelease", "utf8")).trim();
  return {
    at: new Date().toISOString().slice(0, 16).replace("T", " "),
    machine: `${cpus().length} cores of ${cpus()[0]?.model.trim()}, Linux ${kernel}, Bun ${Bun.version}`,
    load: load(),
    isBusy: isBusy(),
    commit: git.stdout.toString().trim() || "unknown",
  };
}

async function main(): Promise<number> {
  const chosen = suites.filter((suite) => suite.pledges.some(({ id }) => isWanted(suite, id)));
  if (chosen.length === 0) fail(`nothing is called ${flags.only}; --list says what there is`);
  const at = await setting();
  console.log(`${at.machine}; load average ${at.load}${at.isBusy ? ": the machine is busy, only ratios count" : ""}`);
  const started = performance.now();
  await using run = new Run();
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, async () => {
      console.error(`${signal}: cleaning up`);
      await run[Symbol.asyncDispose]();
      process.exit(130);
    });
  for (const suite of chosen) await run.suite(suite);
  console.log(`measured in ${((performance.now() - started) / 1000).toFixed(0)} s; load average ${load()}`);
  if (run.outcomes.length > 0) await write(only ? await merged(run.outcomes) : run.outcomes, at);
  console.log(`\n${plainTable(run.outcomes)}`);
  const missed = run.outcomes.filter(({ ok }) => ok === false).map(({ id }) => id);
  if (missed.length > 0) console.log(`\nmissed: ${missed.join(", ")}`);
  for (const suite of run.leftOut) console.log(`left out: ${suite}`);
  for (const failure of run.failures) console.log(`failed: ${failure}`);
  return run.failures.length > 0 || (flags.strict && missed.length > 0) ? 1 : 0;
}

/** The rows of this run in place of those of earlier runs, in the order of the suites. Every ratio is of one run. */
async function merged(outcomes: readonly Outcome[]): Promise<Outcome[]> {
  const earlier: Outcome[] = await Bun.file(`${import.meta.dir}/results/latest.json`)
    .json()
    .catch(() => []);
  const ids = suites.flatMap(({ pledges }) => pledges.map(({ id }) => id));
  return ids.flatMap((id) => [...outcomes, ...earlier].find((row) => row.id === id) ?? []);
}

async function write(outcomes: readonly Outcome[], at: Setting): Promise<void> {
  const folder = `${import.meta.dir}/results`;
  await mkdir(folder, { recursive: true });
  await Bun.write(`${folder}/latest.json`, `${JSON.stringify(outcomes, undefined, 2)}\n`);
  await Bun.write(`${folder}/latest.md`, markdown(outcomes, at));
  await Bun.write(`${folder}/latest.svg`, plot(outcomes));
}

if (flags.help) console.log(help);
else if (flags.list) list();
else process.exit(await main()); // a database of a suite is a child that ends with this process
