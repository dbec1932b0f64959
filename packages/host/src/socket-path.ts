import { closeSync, constants, openSync } from "node:fs";
import { basename, dirname } from "node:path";

/** What the kernel takes as the path of a unix socket, bytes (unix(7)). */
const longest = 107;

/** Opens a folder to name it by, not to read it (open(2); Node has no constant for it). */
const O_PATH = 0o10000000;

/**
 * Calls `connect` with a path to the unix socket at `path` that the kernel takes, however long `path` is: a data folder
 * deep in somebody's home is one that works. The path holds until `connect` is done.
 */
export async function withSocketPath<T>(path: string, connect: (path: string) => Promise<T>): Promise<T> {
  if (Buffer.byteLength(path) <= longest) return connect(path);
  const folder = openSync(dirname(path), O_PATH | constants.O_DIRECTORY);
  try {
    return await connect(`/proc/self/fd/${folder}/${basename(path)}`);
  } finally {
    closeSync(folder);
  }
}
