import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dir, "../src/main.ts");

/** The compiled program, as it is shipped: it starts in a quarter of the time the sources take. */
export const program = join(import.meta.dir, "../../../.cache/test/wrenn");
const flags = ["--compile", "--bytecode", "--format=esm", "--outfile", program];
const built = Bun.spawnSync([process.execPath, "build", ...flags, main]);
if (!built.success) throw new Error(built.stderr.toString());

/** What a finished program left. */
export type Ended = { code: number; stdout: string; stderr: string };

/** An empty folder in place of the configuration of whoever runs the tests. */
export const emptyHome = (): string => mkdtempSync(join(tmpdir(), "wrenn-cli-"));

/** The environment of a command line that talks to `url`; no setting of the machine leaks in. */
export function envFor(url: string, apiKey: string, home: string): Record<string, string> {
  const { PATH = "", TMPDIR } = process.env;
  return {
    PATH,
    HOME: home,
    WRENN_BASE_URL: url,
    WRENN_API_KEY: apiKey,
    ...(TMPDIR === undefined ? {} : { TMPDIR }),
  };
}

/** Starts `wrenn ARGS` as a real process. */
export const spawn = (args: readonly string[], env: Record<string, string>, stdin: Blob | "ignore" = "ignore") =>
  Bun.spawn([program, ...args], { env, stdin, stdout: "pipe", stderr: "pipe" });

/** Runs `wrenn ARGS` to its end. */
export async function wrenn(
  args: readonly string[],
  env: Record<string, string>,
  stdin: Blob | "ignore" = "ignore",
): Promise<Ended> {
  const child = spawn(args, env, stdin);
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}
