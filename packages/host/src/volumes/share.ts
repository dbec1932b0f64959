import {
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsync,
  ftruncateSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  read,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statfsSync,
  symlinkSync,
  unlinkSync,
  write,
} from "node:fs";
import { constants as system } from "node:os";
import { posix } from "node:path";
import { promisify } from "node:util";
import type { VolumeAnswer, VolumeAttributes, VolumeCall, VolumeOwner, VolumeRequest } from "@wrenn/contract";
import { minFreeDiskMib } from "../room.ts";
import { type Open, openBeneath, PathError } from "./beneath.ts";
import { entryOf, give, isRoot, isShown, modeMask, type Tree } from "./tree.ts";

const { O_DIRECTORY, O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_TRUNC } = constants;
const readAt = promisify(read);
const writeAt = promisify(write);
const syncFile = promisify(fsync);

/** More than any kernel asks for at once. */
const mostBytes = 1 << 20;
const longestTarget = 4_095;

/** What a call asks for beside attributes. */
type Result = Omit<VolumeAnswer, "id"> & { body?: Uint8Array };

/** errno(3) of what is no system call's failure. */
const errno = { EIO: 5, EEXIST: 17, EINVAL: 22, ENOSPC: 28, ENOENT: 2 };

/** What a repeated call fails with when the first one has had its effect already. */
const doneAlready: Readonly<Partial<Record<VolumeCall["op"], number>>> = {
  ...{ mkdir: errno.EEXIST, symlink: errno.EEXIST, link: errno.EEXIST, create: errno.EEXIST },
  ...{ unlink: errno.ENOENT, rmdir: errno.ENOENT, rename: errno.ENOENT },
};

/**
 * A volume as guests that have it mounted use it. Callers are hostile: nothing they say leads out of it, not even by a
 * link, since guests follow links themselves. Nothing is kept between two calls.
 */
export class Share {
  /** `room` tells whether the disk under the volume may be written to. */
  constructor(
    readonly tree: Tree,
    readonly room: () => boolean,
  ) {}

  /** Answers a call; whatever goes wrong is a number of errno(3). */
  async answer(request: VolumeRequest, body: Uint8Array): Promise<Result> {
    try {
      return await this.#act(request, body);
    } catch (thrown) {
      const number = numberOf(thrown);
      if (!request.again || number !== doneAlready[request.op]) return { errno: number };
      return this.#after(request);
    }
  }

  /** What a call that was carried out before would have answered. */
  #after(request: VolumeRequest): Result {
    if (["unlink", "rmdir", "rename"].includes(request.op)) return {};
    try {
      return this.#at("to" in request ? request.to : request.path, described);
    } catch (thrown) {
      return { errno: numberOf(thrown) };
    }
  }

  #act(call: VolumeCall, body: Uint8Array): Result | Promise<Result> {
    switch (call.op) {
      case "stat":
        return this.#at(call.path, described);
      case "list":
        return this.#list(call.path);
      case "read":
        return this.#read(call);
      case "write":
        return this.#write(call, body);
      case "create":
        return this.#create(call);
      case "mkdir":
        return this.#mkdir(call);
      case "symlink":
        return this.#symlink(call);
      case "readlink":
        return this.#at(call.path, (folder, name) => ({ target: readlinkSync(entryOf(folder, name)) }));
      case "unlink":
        return this.#at(call.path, (folder, name) => done(() => unlinkSync(entryOf(folder, name))));
      case "rmdir":
        return this.#rmdir(call.path);
      case "rename":
        return this.#rename(call);
      case "link":
        return this.#link(call);
      case "change":
        return this.#change(call);
      case "sync":
        return this.#sync(call.path);
      case "space":
        return this.#space();
      default:
        return { errno: errno.EINVAL };
    }
  }

  /** Calls `act` with the open folder of an entry and its name in it, which no link stands for. */
  #at<T>(path: string, act: (folder: Open, name: string) => T): T {
    const clean = cleanPath(path);
    using folder = this.#open(parentOf(clean), O_RDONLY | O_DIRECTORY);
    return act(folder, clean === "" ? "." : posix.basename(clean));
  }

  /** As {@link Share.#at}, for what needs space. */
  #made<T>(path: string, act: (folder: Open, name: string) => T): T {
    if (!this.room()) throw Object.assign(new Error("no room"), { code: "ENOSPC" });
    return this.#at(path, act);
  }

  #open(path: string, flags: number, mode = 0): Open {
    return openBeneath(this.tree.fd, path, { flags, mode, follow: false });
  }

  #file(path: string, flags: number): Open {
    const file = this.#open(cleanPath(path), flags | O_NONBLOCK);
    if (fstatSync(file.fd).isFile()) return file;
    file[Symbol.dispose]();
    throw new PathError("EINVAL", path);
  }

  #list(path: string): Result {
    using folder = this.#open(cleanPath(path), O_RDONLY | O_DIRECTORY);
    const names = [...readdirSync(folder.path).filter(isShown), ".", ".."].flatMap((name) => {
      // What is above the volume is not the guest's to know.
      const at = name === ".." ? folder.path : entryOf(folder, name);
      const stat = name === ".." ? fstatSync(folder.fd) : lstatSync(at, { throwIfNoEntry: false });
      return stat ? [[name, stat.ino, stat.mode & constants.S_IFMT] as const] : [];
    });
    return { names };
  }

  async #read({ path, offset, size }: Extract<VolumeCall, { op: "read" }>): Promise<Result> {
    using file = this.#file(path, O_RDONLY);
    const buffer = Buffer.allocUnsafe(Math.min(size, mostBytes));
    let got = 0;
    while (got < buffer.length) {
      const { bytesRead } = await readAt(file.fd, buffer, got, buffer.length - got, offset + got);
      if (bytesRead === 0) break;
      got += bytesRead;
    }
    return { body: buffer.subarray(0, got) };
  }

  async #write({ path, offset }: Extract<VolumeCall, { op: "write" }>, body: Uint8Array): Promise<Result> {
    if (!this.room()) return { errno: errno.ENOSPC };
    using file = this.#file(path, O_WRONLY);
    for (let at = 0; at < body.length; ) {
      const { bytesWritten } = await writeAt(file.fd, body, at, body.length - at, offset + at);
      at += bytesWritten;
    }
    return {};
  }

  #create(call: Extract<VolumeCall, { op: "create" }>): Result {
    return this.#made(call.path, (folder, name) => {
      const existed = lstatSync(entryOf(folder, name), { throwIfNoEntry: false }) !== undefined;
      const flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | (call.exclusive ? O_EXCL : 0);
      using file = openBeneath(folder.fd, name, {
        flags: flags | (call.truncate ? O_TRUNC : 0),
        mode: 0o600,
        follow: false,
      });
      if (!existed) own(file, call);
      return { attributes: attributesOf(fstatSync(file.fd)) };
    });
  }

  #mkdir(call: Extract<VolumeCall, { op: "mkdir" }>): Result {
    return this.#made(call.path, (folder, name) => {
      mkdirSync(entryOf(folder, name), { mode: 0o700 });
      give(folder, name, call);
      return described(folder, name);
    });
  }

  #symlink({ path, target, uid, gid }: Extract<VolumeCall, { op: "symlink" }>): Result {
    if (target.length > longestTarget || target.includes("\0")) return { errno: errno.EINVAL };
    return this.#made(path, (folder, name) => {
      symlinkSync(target, entryOf(folder, name));
      give(folder, name, { uid, gid });
      return described(folder, name);
    });
  }

  /** A folder in which only removed files wait for their last user is empty to everybody else. */
  #rmdir(path: string): Result {
    return this.#at(path, (folder, name) => {
      const at = entryOf(folder, name);
      {
        using below = openBeneath(folder.fd, name, { flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW, follow: false });
        const names = readdirSync(below.path);
        if (!names.some(isShown)) for (const left of names) unlinkSync(entryOf(below, left));
      }
      return done(() => rmdirSync(at));
    });
  }

  #rename({ path, to, keep }: Extract<VolumeCall, { op: "rename" }>): Result {
    return this.#at(path, (folder, name) =>
      this.#at(to, (target, other) => {
        const at = entryOf(target, other);
        if (keep && lstatSync(at, { throwIfNoEntry: false })) return { errno: errno.EEXIST };
        return done(() => renameSync(entryOf(folder, name), at));
      }),
    );
  }

  #link({ path, to }: Extract<VolumeCall, { op: "link" }>): Result {
    return this.#at(path, (folder, name) =>
      this.#made(to, (target, other) => {
        linkSync(entryOf(folder, name), entryOf(target, other));
        return described(target, other);
      }),
    );
  }

  #change({ path, size, atimeMs, mtimeMs, ...owner }: Extract<VolumeCall, { op: "change" }>): Result {
    if (size !== undefined) {
      if (size > 0 && !this.room()) return { errno: errno.ENOSPC };
      using file = this.#file(path, O_WRONLY);
      ftruncateSync(file.fd, size);
    }
    return this.#at(path, (folder, name) => {
      give(folder, name, owner);
      const before = lstatSync(entryOf(folder, name));
      if (atimeMs !== undefined || mtimeMs !== undefined)
        lutimesSync(entryOf(folder, name), (atimeMs ?? before.atimeMs) / 1000, (mtimeMs ?? before.mtimeMs) / 1000);
      return described(folder, name);
    });
  }

  async #sync(path: string): Promise<Result> {
    using file = this.#open(cleanPath(path), O_RDONLY | O_NONBLOCK);
    await syncFile(file.fd);
    return {};
  }

  /** What may be written is shown as what is free, so that guests see the disk as full when it is for them. */
  #space(): Result {
    const of = statfsSync(`/proc/self/fd/${this.tree.fd}`);
    const kept = Math.ceil((minFreeDiskMib * 2 ** 20) / of.bsize);
    const left = (blocks: number) => Math.max(0, blocks - kept);
    const files = { files: of.files, filesFree: of.ffree };
    const space = { blockBytes: of.bsize, blocks: of.blocks, free: left(of.bfree), available: left(of.bavail) };
    return { space: { ...space, ...files } };
  }
}

/** A new file's owner and mode. */
function own(file: Open, { uid, gid, mode }: VolumeOwner): void {
  if (isRoot) fchownSync(file.fd, uid, gid);
  fchmodSync(file.fd, mode & modeMask);
}

const described = (folder: Open, name: string): Result => ({
  attributes: attributesOf(lstatSync(entryOf(folder, name))),
});

function done(act: () => void): Result {
  act();
  return {};
}

type Facts = Pick<VolumeAttributes, "ino" | "mode" | "nlink" | "uid" | "gid" | "size" | "blocks"> & {
  atimeMs: number;
  mtimeMs: number;
  ctimeMs: number;
};

const attributesOf = ({ ino, mode, nlink, uid, gid, size, blocks, atimeMs, mtimeMs, ctimeMs }: Facts) => ({
  ...{ ino, mode, nlink, uid, gid, size, blocks, atimeMs, mtimeMs, ctimeMs },
});

/** A guest's path. Throws for what no kernel sends. */
function cleanPath(path: string): string {
  const isClean = path === "" || path.split("/").every((name) => name !== "" && name !== "." && name !== "..");
  if (isClean && !path.includes("\0")) return path;
  throw new PathError("EINVAL", path);
}

function parentOf(clean: string): string {
  const parent = posix.dirname(clean);
  return parent === "." ? "" : parent;
}

function numberOf(thrown: unknown): number {
  const code = (thrown as { code?: unknown } | null)?.code;
  const number = typeof code === "string" ? (system.errno as Record<string, number>)[code] : undefined;
  return number ?? errno.EIO;
}
