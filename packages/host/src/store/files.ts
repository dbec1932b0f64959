import { type FileHandle, open, stat } from "node:fs/promises";
import { basename } from "node:path";
import { WrennError } from "@wrenn/contract";
import { dataRuns } from "../drivers/libc.ts";
import type { Vault } from "./vault.ts";

/** Bytes of a file that are kept as one chunk. Hashing one takes some milliseconds, in which the agent does nothing else. */
export const chunkBytes = 2 << 20;

/** Zeros in pieces of this size stay holes of a file that is brought back. */
const pieceBytes = 64 << 10;

/** Chunks under way at once: enough to fill a line while some are compressed. */
const atOnce = 4;

/** A file as its chunks: each with its number in the file; what is not named is zero. */
export type StoredFile = {
  readonly name: string;
  readonly size: number;
  readonly mode: number;
  readonly chunks: readonly (readonly [index: number, name: string])[];
};

/** What a transfer counts as it goes. */
export type Tally = { bytes: number; sent: number };

/** How a transfer goes: whoever aborts it, and what it counts. */
export type Course = { readonly signal: AbortSignal; readonly tally: Tally };

/** Keeps a file. A sparse one costs what it holds. */
export async function storeFile(vault: Vault, path: string, { signal, tally }: Course): Promise<StoredFile> {
  await using file = await open(path, "r");
  const { size, mode } = await file.stat();
  const chunks: [number, string][] = [];
  await eachAtOnce(indexes(file.fd, size), async (index) => {
    signal.throwIfAborted();
    const bytes = await readFully(file, index * chunkBytes, Math.min(chunkBytes, size - index * chunkBytes));
    if (isZero(bytes)) return;
    const { name, sent } = await vault.keep(bytes, signal);
    chunks.push([index, name]);
    tally.bytes += bytes.length;
    tally.sent += sent;
  });
  return { name: basename(path), size, mode: mode & 0o777, chunks: chunks.sort(([a], [b]) => a - b) };
}

/** Brings a file back as the new file `path`, durably. Throws `internal_error` that names what is damaged. */
export async function fetchFile(
  vault: Vault,
  from: StoredFile,
  path: string,
  { signal, tally }: Course,
): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  try {
    await file.truncate(from.size);
    await eachAtOnce(from.chunks, async ([index, name]) => {
      signal.throwIfAborted();
      const bytes = await vault.take(name, signal);
      if (bytes.length !== Math.min(chunkBytes, from.size - index * chunkBytes))
        throw vault.damaged(vault.chunkKey(name), `its length is wrong for ${from.name}`);
      await writeSparse(file, bytes, index * chunkBytes);
      tally.bytes += bytes.length;
    });
    await file.chmod(from.mode);
    await file.datasync();
  } catch (thrown) {
    throw isFull(thrown) ? noRoom(path, thrown) : thrown;
  }
}

/** Bytes that a file would take on this machine. */
export const heldBytes = ({ chunks }: StoredFile): number => chunks.length * chunkBytes;

/** Bytes that a file occupies here. */
export const occupied = async (path: string): Promise<number> => (await stat(path)).blocks * 512;

function* indexes(fd: number, size: number): Generator<number> {
  let next = 0;
  for (const { offset, length } of dataRuns(fd, size))
    for (let index = Math.max(next, Math.floor(offset / chunkBytes)); index * chunkBytes < offset + length; index++) {
      yield index;
      next = index + 1;
    }
}

/** Runs `work` for each, some at once; stops at the first failure, when those under way have ended. */
async function eachAtOnce<T>(all: Iterable<T>, work: (one: T) => Promise<void>): Promise<void> {
  const left = all[Symbol.iterator]();
  let failed = false;
  const runner = async () => {
    for (let next = left.next(); !next.done && !failed; next = left.next())
      await work(next.value).catch((thrown) => {
        failed = true;
        throw thrown;
      });
  };
  const ends = await Promise.allSettled(Array.from({ length: atOnce }, runner));
  const first = ends.find((end) => end.status === "rejected");
  if (first) throw first.reason;
}

async function readFully(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) throw new WrennError("internal_error", "a file shrank while it was stored");
    done += bytesRead;
  }
  return bytes;
}

async function writeSparse(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    let end = at;
    while (end < bytes.length && !isZero(bytes.subarray(end, end + pieceBytes))) end += pieceBytes;
    end = Math.min(end, bytes.length);
    for (let done = at; done < end; ) done += (await file.write(bytes, done, end - done, position + done)).bytesWritten;
    at = end === at ? at + pieceBytes : end;
  }
}

const zeros = Buffer.alloc(pieceBytes);

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const part = bytes.subarray(at, at + pieceBytes);
    if (Buffer.compare(part, zeros.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}

const isFull = (thrown: unknown): boolean =>
  ["ENOSPC", "EDQUOT"].includes((thrown as NodeJS.ErrnoException)?.code ?? "");

const noRoom = (path: string, cause: unknown) =>
  new WrennError("insufficient_storage", `the host's disk is full: ${path} could not be written`, {
    remedy: "Free disk space on the host, or resume on another.",
    cause,
  });
