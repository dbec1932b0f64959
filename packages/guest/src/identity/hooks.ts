import { accessSync, constants, readdirSync } from "node:fs";
import { join } from "node:path";

/** Executables that an image brings to be run after every restore, in lexical order. */
export const hookFolder = "/etc/wrenn/on-restore.d";

/** Runs the hooks one after the other, in the background; their failures are logged and change nothing. */
export async function runRestoreHooks(env: Readonly<Record<string, string>>): Promise<void> {
  for (const file of executablesIn(hookFolder)) {
    const child = Bun.spawn([file], {
      cwd: "/",
      env: { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", ...env },
      stdio: ["ignore", "ignore", "inherit"],
    });
    const status = await child.exited;
    if (status !== 0) console.error(`${file} ended with status ${status}`);
  }
}

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
    return true;
  } catch {
    return false;
  }
}
