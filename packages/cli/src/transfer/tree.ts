import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import ignore, { type Ignore } from "ignore";
import type { EntryInfo } from "wrenn";

/** What tells whether a file changed: what a tar stream carries over, so both sides agree after a copy. */
export type Mark = { readonly isFolder: boolean; readonly sizeBytes: number; readonly modifiedSec: number };
/** Everything below a folder, by path relative to it. */
export type Tree = ReadonlyMap<string, Mark>;

/** Version control's own folder is never part of what it controls. */
const always = [".git"];

/** Which paths are left out: what `.gitignore` at the top says, and the patterns given, in the same language. */
export async function ignored(root: string, patterns: readonly string[], useGitignore: boolean): Promise<Ignore> {
  const rules = ignore()
    .add(always)
    .add([...patterns]);
  const text = useGitignore ? await readFile(join(root, ".gitignore"), "utf8").catch(() => "") : "";
  return rules.add(text);
}

/** The local tree; what vanishes while it is read is not part of it. */
export async function localTree(root: string, rules: Ignore): Promise<Tree> {
  const found = new Map<string, Mark>();
  const visit = async (folder: string): Promise<void> => {
    const entries = await readdir(join(root, folder), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (!(entry.isFile() || entry.isDirectory()) || rules.ignores(entry.isDirectory() ? `${path}/` : path)) continue;
      const seen = await stat(join(root, path)).catch(() => undefined);
      if (!seen) continue;
      found.set(path, markOf(entry.isDirectory(), seen.size, seen.mtimeMs));
      if (entry.isDirectory()) await visit(path);
    }
  };
  await visit("");
  return found;
}

/** The tree that a listing of a sandbox's folder `root` shows. */
export function remoteTree(root: string, entries: readonly EntryInfo[]): Tree {
  const inside = entries.filter(({ type }) => type === "file" || type === "directory");
  return new Map(
    inside.map(({ path, type, sizeBytes, modifiedAt }) => [
      path.slice(root.length + 1),
      markOf(type === "directory", sizeBytes, modifiedAt?.getTime() ?? 0),
    ]),
  );
}

/** What must be sent so that `there` holds all of `here`, and what `there` has beyond it; parents first. */
export function difference(here: Tree, there: Tree): { send: string[]; remove: string[] } {
  const send = [...here].filter(([path, mark]) => !same(mark, there.get(path))).map(([path]) => path);
  const gone = [...there.keys()].filter((path) => !here.has(path)).sort();
  const remove = gone.filter((path) => !gone.some((other) => path.startsWith(`${other}/`)));
  return { send, remove };
}

const markOf = (isFolder: boolean, sizeBytes: number, modifiedMs: number): Mark =>
  isFolder
    ? { isFolder, sizeBytes: 0, modifiedSec: 0 } // a folder has nothing but its entries
    : { isFolder, sizeBytes, modifiedSec: Math.floor(modifiedMs / 1000) };

const same = (a: Mark, b: Mark | undefined): boolean =>
  a.isFolder === b?.isFolder && a.sizeBytes === b.sizeBytes && a.modifiedSec === b.modifiedSec;
