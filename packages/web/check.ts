/** Types and format of the dashboard: Svelte files need tools of their own. `--write` formats and does nothing else. */
import { join } from "node:path";

const bin = (name: string) => join(import.meta.dir, "../../node_modules", name);

async function run(command: readonly string[]): Promise<number> {
  return Bun.spawn([...command], { cwd: import.meta.dir, stdout: "inherit", stderr: "inherit" }).exited;
}

const writes = process.argv.includes("--write");
const prettier = [bin(".bin/prettier"), writes ? "--write" : "--check", "--log-level=warn", "src", "*.ts"];
// Node, since svelte-check reaches TypeScript 6 by a hook into its module loader.
const svelteCheck = [
  "node",
  "-r",
  "./typescript6.cjs",
  bin("svelte-check/bin/svelte-check"),
  "--tsconfig",
  "./tsconfig.check.json",
];
const types = [...svelteCheck, "--output", "human", "--fail-on-warnings"];
const parts = writes ? [prettier] : [prettier, types];
const codes = await Promise.all(parts.map(run));
process.exit(codes.some((code) => code !== 0) ? 1 : 0);
