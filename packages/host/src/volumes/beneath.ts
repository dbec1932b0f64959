import { dlopen, FFIType, ptr, read } from "bun:ffi";
import { closeSync, constants } from "node:fs";
import { WrennError } from "@wrenn/contract";

/** openat2(2), the same number on every architecture: the only call that keeps the kernel from leaving a folder. */
const openat2 = 437n;

/**
 * `RESOLVE_BENEATH`: nothing outside the folder, by `..`, an absolute link or any link on the way. `RESOLVE_NO_MAGICLINKS`
 * and `RESOLVE_NO_XDEV`: no other process's files and no other file system.
 */
const resolve = { beneath: 0x08n, noMagicLinks: 0x02n, noXdev: 0x01n, noSymlinks: 0x04n };
const howBytes = 24;

const load = () =>
  dlopen("libc.so.6", {
    syscall: { args: [FFIType.i64, FFIType.i64, FFIType.ptr, FFIType.ptr, FFIType.u64], returns: FFIType.i64 },
    __errno_location: { args: [], returns: FFIType.ptr },
  }).symbols;
let loaded: ReturnType<typeof load> | undefined;

const { O_CREAT } = constants;
/** Flags of open(2) that Node has no names for. */
export const flags = { path: 0o10000000, cloexec: 0o2000000 };

/** errno(3) values that say how a path is wrong. */
const errors: Readonly<Record<number, string>> = {
  ...{ 1: "EPERM", 2: "ENOENT", 13: "EACCES", 17: "EEXIST", 18: "EXDEV", 20: "ENOTDIR", 21: "EISDIR", 28: "ENOSPC" },
  ...{ 36: "ENAMETOOLONG", 40: "ELOOP", 122: "EDQUOT" },
};

/** A failed call with its name for the error, as Node's have it. */
export class PathError extends Error {
  constructor(
    readonly code: string,
    path: string,
  ) {
    super(`${code}: ${path}`);
  }
}

/** An open file, closed at the end of its block. */
export type Open = Disposable & {
  readonly fd: number;
  /** Names what is open for calls that take paths; with a name after it, an entry of an open folder. */
  readonly path: string;
};

/** How a file is opened: flags as of open(2), the mode of one that is made, whether links on the way may be followed. */
export type How = { readonly flags: number; readonly mode?: number; readonly follow?: boolean };

/**
 * Opens `path`, relative to the open folder `root`, without ever leaving it, whatever links a hostile writer has laid or
 * lays meanwhile. Throws {@link PathError}; `EXDEV` and `ELOOP` are attempts to leave.
 */
export function openBeneath(root: number, path: string, { flags: wanted, mode = 0, follow = true }: How): Open {
  loaded ??= load();
  const how = new BigUint64Array(howBytes / 8);
  how[0] = BigInt(wanted | flags.cloexec);
  how[1] = wanted & O_CREAT ? BigInt(mode) : 0n;
  how[2] = resolve.beneath | resolve.noMagicLinks | resolve.noXdev | (follow ? 0n : resolve.noSymlinks);
  const name = Buffer.from(`${path || "."}\0`);
  for (let tries = 0; ; tries++) {
    const fd = Number(loaded.syscall(openat2, BigInt(root), ptr(name), ptr(how), BigInt(howBytes)));
    if (fd >= 0) return { fd, path: `/proc/self/fd/${fd}`, [Symbol.dispose]: () => closeSync(fd) };
    const errno = read.i32(loaded.__errno_location()!, 0);
    const isRaced = errno === 11; // something on the way was renamed meanwhile (openat2(2), EAGAIN)
    if (!isRaced || tries === 8) throw new PathError(errors[errno] ?? `errno ${errno}`, path);
  }
}

/** What a failed call on a volume's files means to its caller. Strangers stay strangers. */
export function volumeError(thrown: unknown, path: string): unknown {
  const code = (thrown as { code?: unknown } | null)?.code;
  const details = { path };
  const refuse = (kind: "not_found" | "invalid_request" | "conflict" | "insufficient_storage", text: string) =>
    new WrennError(kind, text, { details, cause: thrown });
  if (thrown instanceof WrennError || typeof code !== "string") return thrown;
  if (code === "ENOENT") return refuse("not_found", `There is no "${path}".`);
  if (code === "EEXIST") return refuse("conflict", `"${path}" exists.`);
  if (code === "ENOSPC" || code === "EDQUOT") return refuse("insufficient_storage", "There is no room for it.");
  if (code === "EXDEV" || code === "ELOOP") return refuse("invalid_request", `"${path}" leads out of the volume.`);
  if (["ENOTDIR", "EISDIR", "ENAMETOOLONG", "EINVAL", "EPERM", "EACCES", "ENOTEMPTY"].includes(code))
    return refuse("invalid_request", `"${path}" cannot be used so: ${code}.`);
  return thrown;
}
