/**
 * Says what comes after a build: a system that runs on this machine freezes the new image by itself, which is waited for;
 * otherwise the next start does.
 *
 * Usage: bun images/announce.ts WRENN_DIR NAME
 */
import { readFile } from "node:fs/promises";
import { Glob } from "bun";

/** An emulated guest on a busy machine was seen to need eight minutes. */
const patienceMs = 20 * 60_000;
const lookMs = 1_000;

const [dir, name] = process.argv.slice(2);
if (!dir || !name) throw new Error("usage: bun images/announce.ts WRENN_DIR NAME");

const json = async (path: string) => JSON.parse(await readFile(path, "utf8").catch(() => "null"));
const { digest } = (await json(`${dir}/images/${name}/image.json`)) ?? {};
const say = (text: string) => process.stderr.write(`\x1b[2m[images]\x1b[0m ${text}`);

/** Whether `wrenn up` runs on this data folder. */
async function isUp(): Promise<boolean> {
  const lock = await json(`${dir}/up.lock`);
  try {
    return lock !== null && process.kill(lock.pid, 0);
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === "EPERM"; // another user's
  }
}

async function isFrozen(): Promise<boolean> {
  for (const path of new Glob("*/template.json").scanSync(`${dir}/templates`))
    if ((await json(`${dir}/templates/${path}`))?.image.digest === digest) return true;
  return false;
}

const started = performance.now();
const seconds = () => Math.round((performance.now() - started) / 1000);
if (await isFrozen()) say(`${name} is ready\n`);
else if (!(await isUp())) say(`${name} is built; the next \`make up\` starts its kernels, once\n`);
else {
  say(`${name}: the running system starts its kernels, once ...`);
  while (!(await isFrozen()) && (await isUp()) && performance.now() - started < patienceMs) await Bun.sleep(lookMs);
  process.stderr.write((await isFrozen()) ? ` ${seconds()} s\n` : " not yet: see logs/wrenn-agent.log\n");
}
