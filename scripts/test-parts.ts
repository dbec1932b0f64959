import { type Subprocess, spawn } from "bun";
import { Stage } from "./stage.ts";
import { namesIn, type Sums, sumsIn } from "./test-output.ts";

/** A program that tests something. */
export type Part = { readonly title: string; readonly command: readonly string[] };

/** How a part ended, by the names of its tests, and what it cost: seconds on the clock, and of the processors. */
export type Result = Part & Sums & { failures: string[]; skips: string[]; seconds: number; processorSeconds: number };

const stage = new Stage((text) => void process.stdout.write(text));
const running = new Set<Subprocess>();

/** Runs the parts, so many at once, and prints what they print; answers their results in the order they ended. */
export async function runAll(parts: readonly Part[], atOnce: number): Promise<Result[]> {
  const waiting = [...parts];
  const results: Result[] = [];
  const lane = async () => {
    for (let part = waiting.shift(); part; part = waiting.shift()) results.push(await run(part));
  };
  await Promise.all(Array.from({ length: Math.max(1, atOnce) }, lane));
  return results;
}

/** Runs one part; its output goes through. A part that prints no sums counts as one test. */
async function run(part: Part): Promise<Result> {
  const { title, command } = part;
  const voice = stage.enter();
  const started = performance.now();
  voice.say(`\n== ${title}\n`);
  const child = spawn([...command], { stdout: "pipe", stderr: "pipe", env: { ...process.env, FORCE_COLOR: "0" } });
  running.add(child);
  const output = (await Promise.all([child.stdout, child.stderr].map((stream) => through(stream, voice.say)))).join("");
  const code = await child.exited;
  running.delete(child);
  const seconds = (performance.now() - started) / 1000;
  const processorSeconds = Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1e6;
  voice.say(`== ${title}: ${code === 0 ? "ok" : `failed (exit ${code})`}, ${seconds.toFixed(1)} s\n`);
  voice.leave();
  const found = namesIn(output, "fail");
  const failures = code !== 0 && found.length === 0 ? [`${title}: exit ${code}`] : found;
  const skips = namesIn(output, "skip");
  return { ...part, ...sumsOf(output, command, code), failures, skips, seconds, processorSeconds };
}

function sumsOf(output: string, command: readonly string[], code: number): Sums {
  const sums = sumsIn(output);
  if (command[1] !== "test" && sums.passed + sums.failed + sums.skipped === 0)
    return code === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 };
  // A runner that dies prints no failing test, yet nothing has passed.
  return code !== 0 && sums.failed === 0 ? { ...sums, failed: 1 } : sums;
}

async function through(stream: ReadableStream<Uint8Array>, say: (text: string) => void): Promise<string> {
  let all = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    say(text);
    all += text;
  }
  return all;
}

/** Prints what is held until its turn, and ends what runs. */
export function cutShort(): void {
  stage.flush();
  for (const child of running) child.kill("SIGTERM");
}
