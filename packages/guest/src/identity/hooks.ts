import { accessSync, constants, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** Executables that an image brings to be run after every restore, in lexical order. */
export const hookFolder = "/etc/wrenn/on-restore.d";

/** Runs the hooks one after the other, in the background; their failures are logged and change nothing. */
export async function runRestoreHooks(env: Readonly<Record<string, string>>): Promise<void> {
  for (const file of executablesIn(hookFolder)) {
    const status = await run(file, env).catch((thrown) => String(thrown)); // a script without #! cannot be started
    if (status !== 0) console.error(`${file} ended with status ${status}`);
  }
}

const run = async (file: string, env: Readonly<Record<string, string>>): Promise<number> =>
  Bun.spawn([file], {
    cwd: "/",
    env: { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", ...env },
    stdio: ["ignore", "ignore", "inherit"],
  }).exited;

function executablesIn(folder: string): string[] {
  try {
    const files = readdirSync(folder).sort();
    return files.map((name) => join(folder, name)).filter(isExecutable);
  } catch {
    return []; // an image without the folder has no hooks
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
