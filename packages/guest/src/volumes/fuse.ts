import type { VolumeAttributes, VolumeName, VolumeSpace } from "@wrenn/contract/core";

/** The kernel's side of FUSE: what it asks and how it is answered (Linux, include/uapi/linux/fuse.h, version 7.31). */

/** Operations that are looked at; every other one is answered with `ENOSYS`, and the kernel does without. */
export const operation = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  create: 35,
  interrupt: 36,
  batchForget: 42,
  rename2: 45,
} as const;

/** errno(3) numbers. */
export const errno = { EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, EINVAL: 22, ENOSYS: 38, ESTALE: 116 } as const;

const protocol = { major: 7, minor: 31 };
/** ASYNC_READ, BIG_WRITES, AUTO_INVAL_DATA, PARALLEL_DIROPS, MAX_PAGES: data is read anew when a file has changed. */
const features = (1 << 0) | (1 << 5) | (1 << 12) | (1 << 18) | (1 << 22);
/** What one write carries, and what room a read of the device must have for it. */
const maxWriteBytes = 128 * 1024;
export const largestRequestBytes = maxWriteBytes + 4096;
const maxReadaheadBytes = 128 * 1024;
/** Requests that the kernel sends ahead without being asked for. */
const maxBackground = 16;

const headerBytes = { in: 40, out: 16 };
const attributeBytes = 88;
const entryBytes = 40 + attributeBytes;

/** One request of the kernel. */
export type FuseRequest = {
  readonly operation: number;
  readonly unique: bigint;
  readonly node: number;
  readonly uid: number;
  readonly gid: number;
  /** What comes after the header. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
};

/** One read of the device, which is one request. */
export function requestOf(message: Uint8Array): FuseRequest {
  const head = new DataView(message.buffer, message.byteOffset, headerBytes.in);
  const bytes = message.subarray(headerBytes.in, head.getUint32(0, true));
  return {
    operation: head.getUint32(4, true),
    unique: head.getBigUint64(8, true),
    node: Number(head.getBigUint64(16, true)),
    uid: head.getUint32(24, true),
    gid: head.getUint32(28, true),
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    bytes,
  };
}

/** The names in a request, each ended by a zero, from `offset` on. */
export const namesIn = ({ bytes }: FuseRequest, offset: number): string[] =>
  Buffer.from(bytes.subarray(offset)).toString().split("\0");

/** A 64-bit number of a request; offsets and sizes of files are exact up to 2^53. */
export const number64 = ({ view }: FuseRequest, offset: number): number => Number(view.getBigUint64(offset, true));

/** A time of a request in milliseconds, from its seconds and the nanoseconds that stand elsewhere. */
export const timeIn = ({ view }: FuseRequest, seconds: number, nanoseconds: number): number =>
  Number(view.getBigInt64(seconds, true)) * 1000 + view.getUint32(nanoseconds, true) / 1e6;

/** An answer's bytes: its header, with room for `size` bytes behind it. */
export function answerOf(unique: bigint, size: number): { message: Uint8Array; view: DataView } {
  const message = new Uint8Array(headerBytes.out + size);
  const head = new DataView(message.buffer);
  head.setUint32(0, message.length, true);
  head.setBigUint64(8, unique, true);
  return { message, view: new DataView(message.buffer, headerBytes.out) };
}

/** An answer that says only how it failed; 0 is success. */
export function failureOf(unique: bigint, number: number): Uint8Array {
  const { message } = answerOf(unique, 0);
  new DataView(message.buffer).setInt32(4, -number, true);
  return message;
}

/** An answer that is bytes as they are. */
export function bytesOf(unique: bigint, bytes: Uint8Array): Uint8Array {
  const { message } = answerOf(unique, bytes.length);
  message.set(bytes, headerBytes.out);
  return message;
}

/** Answers `init`: what this server can, and how much it takes at once. */
export function initOf(unique: bigint): Uint8Array {
  const { message, view } = answerOf(unique, 64);
  view.setUint32(0, protocol.major, true);
  view.setUint32(4, protocol.minor, true);
  view.setUint32(8, maxReadaheadBytes, true);
  view.setUint32(12, features, true);
  view.setUint16(16, maxBackground, true);
  view.setUint16(18, maxBackground, true);
  view.setUint32(20, maxWriteBytes, true);
  view.setUint32(24, 1, true); // times are exact to the nanosecond
  view.setUint16(28, maxReadaheadBytes / 4096, true);
  return message;
}

/**
 * How long the kernel believes what it was told, seconds. Every opening of a file looks its name up anew, so that it sees
 * what other sandboxes have written; folders above it, and files that are open already, are looked at once a second.
 */
const validSeconds = 1n;
const folder = 0o040000;
const isFolder = ({ mode }: VolumeAttributes): boolean => (mode & 0o170000) === folder;

/** Whose entries are shown to be, where the host cannot tell: whoever looks. */
export type Viewer = { readonly uid: number; readonly gid: number } | undefined;

function putAttributes(view: DataView, at: number, of: VolumeAttributes, viewer: Viewer): void {
  const numbers = [of.ino, of.size, of.blocks];
  const times = [of.atimeMs, of.mtimeMs, of.ctimeMs];
  for (const [index, value] of numbers.entries()) view.setBigUint64(at + index * 8, BigInt(value), true);
  for (const [index, ms] of times.entries()) {
    const seconds = Math.floor(ms / 1000);
    view.setBigInt64(at + 24 + index * 8, BigInt(seconds), true);
    view.setUint32(at + 48 + index * 4, Math.min(999_999_999, Math.round((ms - seconds * 1000) * 1e6)), true);
  }
  const rest = [of.mode, of.nlink, viewer?.uid ?? of.uid, viewer?.gid ?? of.gid, 0, 4096, 0];
  for (const [index, value] of rest.entries()) view.setUint32(at + 60 + index * 4, value, true);
}

/** Answers `getattr` and `setattr`. */
export function attributesOf(unique: bigint, of: VolumeAttributes, viewer: Viewer): Uint8Array {
  const { message, view } = answerOf(unique, 16 + attributeBytes);
  view.setBigUint64(0, validSeconds, true);
  putAttributes(view, 16, of, viewer);
  return message;
}

/** Answers what leads to an entry; `opened` adds what `create` answers beyond it. */
export function entryOf(
  unique: bigint,
  { node, of, viewer, opened }: { node: number; of: VolumeAttributes; viewer: Viewer; opened?: boolean },
): Uint8Array {
  const { message, view } = answerOf(unique, entryBytes + (opened ? 16 : 0));
  view.setBigUint64(0, BigInt(node), true);
  view.setBigUint64(16, isFolder(of) ? validSeconds : 0n, true);
  view.setBigUint64(24, validSeconds, true);
  putAttributes(view, 40, of, viewer);
  return message;
}

/** Answers `open` and `opendir`. */
export function openOf(unique: bigint, handle: number): Uint8Array {
  const { message, view } = answerOf(unique, 16);
  view.setBigUint64(0, BigInt(handle), true);
  return message;
}

/** Answers `write`: how many bytes were taken. */
export function writtenOf(unique: bigint, bytes: number): Uint8Array {
  const { message, view } = answerOf(unique, 8);
  view.setUint32(0, bytes, true);
  return message;
}

/** Answers `statfs`. */
export function spaceOf(unique: bigint, of: VolumeSpace): Uint8Array {
  const { message, view } = answerOf(unique, 80);
  const numbers = [of.blocks, of.free, of.available, of.files, of.filesFree];
  for (const [index, value] of numbers.entries()) view.setBigUint64(index * 8, BigInt(value), true);
  view.setUint32(40, of.blockBytes, true);
  view.setUint32(44, 255, true);
  view.setUint32(48, of.blockBytes, true);
  return message;
}

/** Answers `readdir`: as many names from `offset` on as fit into `size` bytes. */
export function listOf(
  unique: bigint,
  names: readonly VolumeName[],
  { offset, size }: { offset: number; size: number },
): Uint8Array {
  const parts: Uint8Array[] = [];
  let used = 0;
  for (let at = offset; at < names.length; at++) {
    const [text, ino, type] = names[at]!;
    const name = Buffer.from(text);
    const length = Math.ceil((24 + name.length) / 8) * 8;
    if (used + length > size) break;
    const part = new Uint8Array(length);
    const view = new DataView(part.buffer);
    view.setBigUint64(0, BigInt(ino), true);
    view.setBigUint64(8, BigInt(at + 1), true);
    view.setUint32(16, name.length, true);
    view.setUint32(20, type >> 12, true); // DT_* are the type bits of a mode
    part.set(name, 24);
    parts.push(part);
    used += length;
  }
  return bytesOf(unique, Buffer.concat(parts));
}
