import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  type Stats,
  unlinkSync,
  writeSync,
} from "node:fs";
import { posix } from "node:path";
import { randomId, type rest, WrennError } from "@wrenn/contract";
import { flags, type Open, openBeneath, PathError, volumeError } from "./beneath.ts";

const { O_DIRECTORY, O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = constants;

/** Entries that one listing gives; a client that wants more asks for a folder below. */
const mostEntries = 10_000;
/** Names of unfinished uploads begin so: they are in no list. */
const unfinished = ".wrenn-upload-";
/** Names of files that a guest has removed and still has open. */
const removed = ".wrenn-removed-";
/** Whether an entry of this name is anybody's business. */
export const isShown = (name: string): boolean => !name.startsWith(unfinished) && !name.startsWith(removed);
/** What the bits of a mode may be: no file of a guest's becomes a privileged program of the host. */
export const modeMask = 0o1777;

/** Whose a new or changed entry is to be; what is absent stays, or is root's and the usual. */
export type Ownership = { uid?: number | undefined; gid?: number | undefined; mode?: number | undefined };

/** The files of one volume. No path leaves it: every call goes through {@link openBeneath}. */
export class Tree implements Disposable {
  readonly #root: number;

  /** Throws `ENOENT` when the folder is not there. */
  constructor(root: string) {
    this.#root = openSync(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }

  /** The open folder itself. */
  get fd(): number {
    return this.#root;
  }

  [Symbol.dispose](): void {
    closeSync(this.#root);
  }

  /** Describes an entry; a link at the end of the path is described itself. Throws `not_found`. */
  stat(path: string): rest.e2b.VolumeEntry {
    return this.#at(path, (folder, name, clean) => describe(clean, lstatSync(entryOf(folder, name)), folder, name));
  }

  /** What is in a folder, `depth` levels deep, parents before their children, names in order. */
  list(path: string, depth: number): rest.e2b.VolumeEntry[] {
    const clean = cleanPath(path);
    const entries: rest.e2b.VolumeEntry[] = [];
    const visit = (at: string, level: number): void => {
      using folder = openBeneath(this.#root, at, { flags: O_RDONLY | O_DIRECTORY, follow: level === 1 });
      for (const name of readdirSync(folder.path).sort()) {
        if (!isShown(name)) continue;
        if (entries.length === mostEntries) throw tooMany(path);
        const full = at === "" ? name : `${at}/${name}`;
        const stat = lstatSync(entryOf(folder, name), { throwIfNoEntry: false });
        if (!stat) continue; // it went meanwhile
        entries.push(describe(full, stat, folder, name));
        if (stat.isDirectory() && level < depth) visit(full, level + 1);
      }
    };
    return explained(path, () => {
      visit(clean, 1);
      return entries;
    });
  }

  /** Makes a folder; with `force` also its parents, and one that exists is as good. Throws `conflict`. */
  makeDir(path: string, owner: Ownership, force: boolean): rest.e2b.VolumeEntry {
    return this.#at(
      path,
      (folder, name, clean) => {
        const at = entryOf(folder, name);
        try {
          mkdirSync(at, { mode: 0o700 });
          give(folder, name, { ...owner, mode: owner.mode ?? 0o755 });
        } catch (thrown) {
          if (!force || (thrown as { code?: string }).code !== "EEXIST" || !lstatSync(at).isDirectory()) throw thrown;
        }
        return describe(clean, lstatSync(at), folder, name);
      },
      force,
    );
  }

  /** Changes owner and mode; never of what a link points to. */
  change(path: string, owner: Ownership): rest.e2b.VolumeEntry {
    return this.#at(path, (folder, name, clean) => {
      give(folder, name, owner);
      return describe(clean, lstatSync(entryOf(folder, name)), folder, name);
    });
  }

  /** Removes an entry with everything below it. Throws `not_found`, `invalid_request` for the volume itself. */
  remove(path: string): void {
    this.#at(path, (folder, name) => {
      if (name === ".") throw new WrennError("invalid_request", "The volume itself is removed with DELETE /volumes.");
      removeFrom(folder, name);
    });
  }

  /** Opens a file to be read. Throws `invalid_request` for what is none. */
  read(path: string): Open & { readonly size: number } {
    return explained(path, () => {
      const file = openBeneath(this.#root, cleanPath(path), { flags: O_RDONLY | O_NONBLOCK });
      const stat = fstatSync(file.fd);
      if (stat.isFile()) return { ...file, size: stat.size };
      file[Symbol.dispose]();
      throw new PathError(stat.isDirectory() ? "EISDIR" : "EINVAL", path);
    });
  }

  /**
   * Writes a file, which appears whole at its end and replaces one of that name, if it may. A link at the end of the path
   * is replaced, not followed. Missing folders above it are made.
   */
  async write(
    path: string,
    body: AsyncIterable<Uint8Array>,
    how: Ownership & { replace: boolean },
  ): Promise<rest.e2b.VolumeEntry> {
    const clean = cleanPath(path);
    if (clean === "") throw new WrennError("invalid_request", "The path names no file.");
    try {
      using folder = this.#folderOf(clean, true);
      const name = posix.basename(clean);
      const before = lstatSync(entryOf(folder, name), { throwIfNoEntry: false });
      if (before?.isDirectory()) throw new PathError("EISDIR", path);
      if (before && !how.replace) throw new PathError("EEXIST", path);
      const { uid, gid, mode } = how;
      const former = before?.isFile() ? before : undefined;
      const owner = { uid: uid ?? former?.uid, gid: gid ?? former?.gid, mode: mode ?? former?.mode };
      await fill(folder, name, body, owner);
      return describe(clean, lstatSync(entryOf(folder, name)), folder, name);
    } catch (thrown) {
      throw volumeError(thrown, path);
    }
  }

  /** Calls `act` with the open folder of an entry and its name in it. */
  #at<T>(path: string, act: (folder: Open, name: string, clean: string) => T, makeParents = false): T {
    return explained(path, () => {
      const clean = cleanPath(path);
      using folder = this.#folderOf(clean, makeParents);
      return act(folder, clean === "" ? "." : posix.basename(clean), clean);
    });
  }

  #folderOf(clean: string, make: boolean): Open {
    const parent = posix.dirname(clean);
    const at = parent === "." ? "" : parent;
    const open = () => openBeneath(this.#root, at, { flags: O_RDONLY | O_DIRECTORY });
    if (!make || at === "") return open();
    try {
      return open();
    } catch (thrown) {
      if (!(thrown instanceof PathError) || thrown.code !== "ENOENT") throw thrown;
      using above = this.#folderOf(at, true);
      try {
        mkdirSync(entryOf(above, posix.basename(at)), { mode: 0o755 });
      } catch (made) {
        if ((made as { code?: string }).code !== "EEXIST") throw made; // by another request
      }
      return open();
    }
  }
}

/** Beside its place under a name of its own first, so that nobody reads half a file. */
async function fill(folder: Open, name: string, body: AsyncIterable<Uint8Array>, owner: Ownership): Promise<void> {
  const temporary = unfinished + randomId();
  using file = openBeneath(folder.fd, temporary, {
    ...{ flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644, follow: false },
  });
  try {
    for await (const bytes of body)
      for (let done = 0; done < bytes.length; ) done += writeSync(file.fd, bytes, done, bytes.length - done);
    fchmodSync(file.fd, (owner.mode ?? 0o644) & modeMask);
    if (isRoot) fchownSync(file.fd, owner.uid ?? 0, owner.gid ?? 0);
    fsyncSync(file.fd);
    renameSync(entryOf(folder, temporary), entryOf(folder, name));
  } catch (thrown) {
    unlinkSync(entryOf(folder, temporary));
    throw thrown;
  }
}

function removeFrom(folder: Open, name: string): void {
  const at = entryOf(folder, name);
  if (!lstatSync(at).isDirectory()) {
    unlinkSync(at);
    return;
  }
  {
    using below = openBeneath(folder.fd, name, { flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW, follow: false });
    for (const child of readdirSync(below.path)) removeFrom(below, child);
  }
  rmdirSync(at);
}

/**
 * Sets what is named, of the entry itself. Only root can give files away; elsewhere they stay this agent's. Throws
 * `EINVAL` for the mode of a link, which has none.
 */
export function give(folder: Open, name: string, { uid, gid, mode }: Ownership): void {
  using entry = openBeneath(folder.fd, name, { flags: flags.path | O_NOFOLLOW, follow: false });
  const now = fstatSync(entry.fd);
  if (now.isSymbolicLink() && mode !== undefined) throw new PathError("EINVAL", name);
  if (isRoot && (uid !== undefined || gid !== undefined))
    lchownSync(entryOf(folder, name), uid ?? now.uid, gid ?? now.gid);
  if (mode !== undefined) chmodSync(entry.path, mode & modeMask);
}

/** Whether this agent can give files to others. */
export const isRoot = process.getuid?.() === 0;

/** An entry of an open folder, for calls that do not follow a link at the end. */
export const entryOf = (folder: Open, name: string): string => `${folder.path}/${name}`;

/** A path within the volume, without `/` at its begin; empty is the volume itself. */
function cleanPath(path: string): string {
  if (path.includes("\0")) throw new WrennError("invalid_request", "A path cannot hold a NUL byte.");
  const clean = posix.normalize(`/${path}`).slice(1);
  return clean.endsWith("/") ? clean.slice(0, -1) : clean;
}

function describe(clean: string, stat: Stats, folder: Open, name: string): rest.e2b.VolumeEntry {
  const { size, mode, uid, gid, atime, mtime, ctime } = stat;
  const times = { atime: atime.toISOString(), mtime: mtime.toISOString(), ctime: ctime.toISOString() };
  const facts = { size, mode: mode & 0o7777, uid, gid, ...times };
  const type = kindOf(stat);
  const target = type === "symlink" ? { target: readlinkSync(entryOf(folder, name)) } : {};
  return { name: clean === "" ? "/" : posix.basename(clean), type, path: `/${clean}`, ...facts, ...target };
}

function kindOf(stat: Stats): rest.e2b.VolumeEntry["type"] {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  return stat.isSymbolicLink() ? "symlink" : "unknown";
}

function explained<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (thrown) {
    throw volumeError(thrown, path);
  }
}

const tooMany = (path: string) =>
  new WrennError("too_large", `"${path}" holds more than ${mostEntries} entries at this depth.`, {
    remedy: "List fewer levels, or a folder below.",
  });
