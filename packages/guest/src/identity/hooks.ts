import { accessSync, constants, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** Executables that an image brings to be run after every restore, in lexical order. */
const hookFolder = "/etc/wrenn/on-restore.d";

/**
 * Runs the hooks one after the other, in the background; their failures are logged and change nothing. A rehearsal only
 * looks for them.
 */
export async function runRestoreHooks(
  env: Readonly<Record<string, string>>,
  isRehearsal: boolean,
  folder = hookFolder,
): Promise<void> {
  const files = executablesIn(folder);
  if (isRehearsal) return;
  for (const file of files) {
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

/** Most images have no hooks. They are asked first: an error that is thrown and caught costs an emulated guest 80 ms. */
const executablesIn = (folder: string): string[] =>
  statSync(folder, { throwIfNoEntry: false })?.isDirectory()
    ? readdirSync(folder)
        .sort()
        .map((name) => join(folder, name))
        .filter(isExecutable)
    : [];

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
