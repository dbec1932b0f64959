import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  openSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { WrennError } from "@wrenn/contract/core";
import type { User } from "../users.ts";
import { fileError } from "./errors.ts";
import { giveTo, makeFolders } from "./folders.ts";
import { temporaryName } from "./temporary.ts";

const { O_WRONLY, O_CREAT, O_EXCL, O_TRUNC } = constants;
const newFileMode = 0o644;

/**
 * Writes one file so that a broken upload leaves what was there before: into a temporary file beside it, which takes
 * its place at `commit`. A file that cannot be replaced (a mount point, one of several hard links, a folder that takes
 * no new files) is written in place. Links are followed; an existing file keeps its owner and mode.
 */
export class FileWriter {
  readonly #target: string;
  readonly #temporary: string | undefined;
  readonly #fd: number;
  readonly #before: Stats | undefined;
  #open = true;

  /** Opens `path` for `user`, with its parents. Throws `invalid_request`, `forbidden`, `insufficient_storage`. */
  constructor(
    readonly path: string,
    readonly user: User,
  ) {
    try {
      makeFolders(dirname(path), user);
      this.#before = regularFile(path);
      this.#target = this.#before ? realpathSync(path) : path;
      const temporary = join(dirname(this.#target), temporaryName(this.#before !== undefined));
      const fd = this.#before && this.#before.nlink > 1 ? undefined : tryOpen(temporary);
      this.#temporary = fd === undefined ? undefined : temporary;
      this.#fd = fd ?? openSync(this.#target, O_WRONLY | O_CREAT | O_TRUNC, newFileMode);
    } catch (thrown) {
      throw fileError(thrown, path);
    }
  }

  /** Appends `bytes`; blocks for as long as the page cache needs, which is what holds back a fast client. */
  write(bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at, bytes.length - at);
    } catch (thrown) {
      throw fileError(thrown, this.path);
    }
  }

  /** The open file, for what is set before it appears under its name. */
  get fd(): number {
    return this.#fd;
  }

  /** Makes the file appear, complete. */
  commit(): void {
    try {
      this.#setOwner();
      this.#close();
      if (this.#temporary) renameSync(this.#temporary, this.#target);
    } catch (thrown) {
      this.abort();
      throw fileError(thrown, this.path);
    }
  }

  /** Gives up; does nothing after `commit`. */
  abort(): void {
    if (this.#open) this.#close();
    if (!this.#temporary) return;
    try {
      unlinkSync(this.#temporary);
    } catch {
      // it was renamed or removed by someone: nothing is left of it
    }
  }

  #setOwner(): void {
    if (!this.#temporary) {
      if (!this.#before) giveTo(this.#target, this.user);
      return;
    }
    const isRoot = process.getuid?.() === 0;
    const { uid, gid } = this.#before ?? this.user;
    if (isRoot) fchownSync(this.#fd, uid, gid);
    fchmodSync(this.#fd, this.#before ? this.#before.mode & 0o7777 : newFileMode);
  }

  #close(): void {
    this.#open = false;
    closeSync(this.#fd);
  }
}

function regularFile(path: string): Stats | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat || stat.isFile()) return stat;
  const what = stat.isDirectory() ? "is a directory" : "is not a regular file";
  throw new WrennError("invalid_request", `path '${path}' ${what}`, { remedy: "Name a file.", details: { path } });
}

/** `undefined` where the folder takes no new file: the target itself may still be writable. */
function tryOpen(temporary: string): number | undefined {
  try {
    return openSync(temporary, O_WRONLY | O_CREAT | O_EXCL, newFileMode);
  } catch (thrown) {
    if (["EACCES", "EPERM", "EROFS"].includes(String((thrown as { code?: string }).code))) return undefined;
    throw thrown;
  }
}
