import { chownSync, mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { WrennError } from "@wrenn/contract/core";
import type { User } from "../users.ts";
import { fileError } from "./errors.ts";

const isRoot = process.getuid?.() === 0;

/** Gives `path` to `user`, where the agent may do so. */
export function giveTo(path: string, user: User): void {
  if (isRoot) chownSync(path, user.uid, user.gid);
}

/** Creates `path` and its missing parents, mode 0755, owned by `user`. Throws `invalid_request` where a file stands. */
export function makeFolders(path: string, user: User): void {
  const missing: string[] = [];
  for (let folder = path; ; folder = dirname(folder)) {
    const stat = statSync(folder, { throwIfNoEntry: false });
    if (stat?.isDirectory()) break;
    if (stat)
      throw new WrennError("invalid_request", `path '${folder}' is a file, not a directory`, {
        remedy: "Name a path below a directory.",
        details: { path: folder },
      });
    missing.push(folder);
  }
  for (const folder of missing.reverse()) {
    try {
      mkdirSync(folder, { mode: 0o755 });
      giveTo(folder, user);
    } catch (thrown) {
      if ((thrown as { code?: string }).code !== "EEXIST") throw fileError(thrown, folder); // made by another request
    }
  }
}
