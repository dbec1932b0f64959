import { lstatSync, mkdirSync, renameSync, rm, statSync } from "node:fs";
import { dirname } from "node:path";
import { WrennError } from "@wrenn/contract/core";
import { fileError } from "../files/errors.ts";
import { giveTo, makeFolders } from "../files/folders.ts";
import type { User } from "../users.ts";

/** Creates the directory `path` and its missing parents for `user`. Throws `conflict` where a directory stands. */
export function makeDirectory(path: string, user: User): void {
  makeFolders(dirname(path), user);
  try {
    mkdirSync(path, { mode: 0o755 });
    giveTo(path, user);
  } catch (thrown) {
    if ((thrown as { code?: string }).code !== "EEXIST") throw fileError(thrown, path);
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory())
      throw new WrennError("conflict", `directory already exists: ${path}`, { remedy: "Use it." });
    throw new WrennError("invalid_request", `path already exists but it is not a directory: ${path}`, {
      remedy: "Remove it, or choose another name.",
    });
  }
}

/** Moves `source` to `destination`, whose missing parents are created for `user`. */
export async function move(source: string, destination: string, user: User): Promise<void> {
  try {
    lstatSync(source);
    makeFolders(dirname(destination), user);
    renameSync(source, destination);
  } catch (thrown) {
    if ((thrown as { code?: string }).code !== "EXDEV") throw moveError(thrown, source, destination);
    await moveAcross(source, destination);
  }
}

function moveError(thrown: unknown, source: string, destination: string): WrennError {
  const errno = (thrown as { code?: string }).code;
  if (errno === "ENOTEMPTY" || errno === "EEXIST")
    return new WrennError("conflict", `directory '${destination}' is not empty`, { remedy: "Empty it first." });
  if (errno === "EISDIR" || errno === "EINVAL")
    return new WrennError("invalid_request", `cannot move '${source}' to '${destination}': ${errno}`, {
      remedy: "Move a file to a file's path, and no directory into itself.",
    });
  return fileError(thrown, source);
}

/** Between file systems there is no rename; coreutils' `mv` keeps owners, times and attributes. */
async function moveAcross(source: string, destination: string): Promise<void> {
  const child = Bun.spawn(["mv", "-fT", "--", source, destination], { stdout: "ignore", stderr: "pipe" });
  const [status, text] = await Promise.all([child.exited, new Response(child.stderr).text()]);
  if (status === 0) return;
  throw new WrennError("internal_error", `mv: ${text.trim()}`, {
    remedy: "Check both paths and the free space of the destination.",
  });
}

/** Removes `path` and what is below it; nothing there is no error. */
export async function remove(path: string): Promise<void> {
  if (path === "/")
    throw new WrennError("invalid_request", "the root directory cannot be removed", {
      remedy: "Remove what is inside, or the sandbox.",
    });
  try {
    await new Promise<void>((resolve, reject) =>
      rm(path, { recursive: true, force: true }, (problem) => (problem ? reject(problem) : resolve())),
    );
  } catch (thrown) {
    throw fileError(thrown, path);
  }
}
