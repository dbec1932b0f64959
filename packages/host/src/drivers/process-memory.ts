import { closeSync, openSync, readFileSync, readSync, statSync, writeSync } from "node:fs";
import { basename } from "node:path";
import { WrennError } from "@wrenn/contract";
import { type Pages, pageBytes } from "../memory/pages.ts";
import { type Range, readProcess, SystemError } from "./libc.ts";

/**
 * A guest's memory is a private mapping of its template's memory file, so the pages it changed are the anonymous pages of
 * that mapping: found in /proc/PID/pagemap (Linux, admin-guide/mm/pagemap.rst), read by process_vm_readv(2) and written
 * through /proc/PID/mem.
 * Unchanged pages stay shared with the template, and saving costs what was changed.
 */

/** One system call moves this much at most; more gains nothing and holds the event loop longer. */
const chunkBytes = 1 << 20;
/** A checkpoint of a live sandbox copies this much at most, so that many at once cannot exhaust this process's memory. */
const maxCopiedBytes = 256 << 20;

/** Upper halves of pagemap entries: bit 63 in memory, bit 62 swapped out, bit 61 the page is the file's. */
const ownMask = 0xe000_0000;
const presentOwn = 0x8000_0000;
const swappedOwn = 0x4000_0000;

/** Pages of a stopped process; with `isCopied` it may run on before they are read. */
export type Taken = { readonly isCopied: boolean; readonly pages: Iterable<Pages> };

type Mapping = { readonly start: number; readonly end: number; readonly firstPage: number };
type Run = { readonly page: number; readonly pages: number };

/**
 * Where the file `path` is mapped in a process: one entry a mapping, since advice on ranges may split it. By its inode,
 * since a jailed process has other names for it.
 */
function mappings(pid: number, path: string): Mapping[] {
  const found = mappingsIfAny(pid, path);
  if (found.length === 0) throw new WrennError("internal_error", `process ${pid} does not map ${path}`);
  return found;
}

function mappingsIfAny(pid: number, path: string): Mapping[] {
  const found: Mapping[] = [];
  const { ino } = statSync(path);
  for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
    const [range, , offset, , inode, ...name] = line.split(/\s+/);
    if (!range || Number(inode) !== ino || basename(name.join(" ").replace(/ \(deleted\)$/, "")) !== basename(path))
      continue;
    const [start, end] = range.split("-").map((hex) => Number.parseInt(hex, 16));
    found.push({ start: start!, end: end!, firstPage: Number.parseInt(offset!, 16) / pageBytes });
  }
  return found;
}

/** Whether a process maps the file `path`. */
export const isMapped = (pid: number, path: string): boolean => mappingsIfAny(pid, path).length > 0;

/** The pages that `pid` changed in its private mapping of `path`, as runs in ascending order. */
export function changedRuns(pid: number, path: string): Run[] {
  const runs: { page: number; pages: number }[] = [];
  const fd = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    for (const mapping of mappings(pid, path)) {
      const count = (mapping.end - mapping.start) / pageBytes;
      const halves = new Uint32Array(count * 2); // little endian: the upper half of entry i is at 2i + 1
      readFully(fd, new Uint8Array(halves.buffer), (mapping.start / pageBytes) * 8);
      for (let i = 0; i < count; i++) {
        const kind = (halves[2 * i + 1]! & ownMask) >>> 0;
        if (kind !== presentOwn && kind !== swappedOwn) continue;
        const page = mapping.firstPage + i;
        const last = runs.at(-1);
        if (last && last.page + last.pages === page) last.pages++;
        else runs.push({ page, pages: 1 });
      }
    }
  } finally {
    closeSync(fd);
  }
  return runs;
}

/**
 * Takes the changed pages of a stopped process. Of one that is to run on they are copied, up to a bound, so that it may
 * do so before they are written; otherwise, and beyond the bound, they are read as they are asked for, and the process
 * must stay stopped until then: `isCopied` tells.
 */
export function takeChanged(pid: number, path: string, runsOn: boolean): Taken {
  const runs = changedRuns(pid, path);
  const bytes = runs.reduce((sum, run) => sum + run.pages, 0) * pageBytes;
  const isCopied = runsOn && bytes <= maxCopiedBytes;
  const chunks = chunksOf(pid, pieces(runs, mappings(pid, path)), isCopied);
  return { isCopied, pages: isCopied ? [...chunks] : chunks };
}

/** What lies at `pieces`; each is valid until the next is taken, or for good when it is to be kept. */
function* chunksOf(pid: number, all: Iterable<Piece>, isKept: boolean): Generator<Pages> {
  using reader = new MemoryReader(pid);
  const buffer = new Uint8Array(isKept ? 0 : chunkBytes);
  for (const batch of batches(all)) {
    const size = batch.reduce((sum, { pages }) => sum + pages, 0) * pageBytes;
    const bytes = isKept ? new Uint8Array(size) : buffer.subarray(0, size);
    reader.read(batch, bytes);
    let at = 0;
    for (const { page, pages } of batch) {
      yield { page, bytes: bytes.subarray(at, at + pages * pageBytes) };
      at += pages * pageBytes;
    }
  }
}

/** Pieces that one system call reads: changed pages lie scattered, and a call for each run of them costs more than the bytes. */
function* batches(all: Iterable<Piece>): Generator<Piece[]> {
  let [batch, pages]: [Piece[], number] = [[], 0];
  for (const piece of all) {
    if ((pages + piece.pages) * pageBytes > chunkBytes) {
      yield batch;
      [batch, pages] = [[], 0];
    }
    batch.push(piece);
    pages += piece.pages;
  }
  if (batch.length > 0) yield batch;
}

/** Reads another process's memory. A container's seccomp filter may forbid the call that is made for it. */
class MemoryReader implements Disposable {
  #memory: number | undefined;

  constructor(readonly pid: number) {}

  read(batch: readonly Piece[], into: Uint8Array): void {
    const ranges = batch.map(({ address, pages }) => ({ address, bytes: pages * pageBytes }));
    if (this.#memory === undefined && this.#readAtOnce(ranges, into)) return;
    this.#memory ??= openSync(`/proc/${this.pid}/mem`, "r");
    let at = 0;
    for (const { address, bytes } of ranges) {
      readFully(this.#memory, into.subarray(at, at + bytes), address);
      at += bytes;
    }
  }

  /** False where it is not done, or not wholly. */
  #readAtOnce(ranges: readonly Range[], into: Uint8Array): boolean {
    try {
      return readProcess(this.pid, ranges, into) === into.length;
    } catch (thrown) {
      if (thrown instanceof SystemError) return false; // the other way says what is wrong, if anything is
      throw thrown;
    }
  }

  [Symbol.dispose](): void {
    if (this.#memory !== undefined) closeSync(this.#memory);
  }
}

/** Writes pages into the private mapping of `path` of a process that waits for them. */
export class MemoryWriter implements Disposable {
  readonly #memory: number;
  readonly #maps: Mapping[];

  constructor(pid: number, path: string) {
    this.#memory = openSync(`/proc/${pid}/mem`, "r+");
    this.#maps = mappings(pid, path);
  }

  put(page: number, bytes: Uint8Array): void {
    let at = 0;
    for (const piece of pieces([{ page, pages: bytes.length / pageBytes }], this.#maps)) {
      const part = bytes.subarray(at, at + piece.pages * pageBytes);
      for (let done = 0; done < part.length; )
        done += writeSync(this.#memory, part, done, part.length - done, piece.address + done);
      at += part.length;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#memory);
  }
}

/** A part of a run that lies in one mapping and in one chunk. */
type Piece = { readonly address: number; readonly page: number; readonly pages: number };

function* pieces(runs: readonly Run[], maps: readonly Mapping[]): Generator<Piece> {
  for (const run of runs) {
    for (let page = run.page; page < run.page + run.pages; ) {
      const map = maps.find((m) => page >= m.firstPage && page < m.firstPage + (m.end - m.start) / pageBytes);
      if (!map) throw new WrennError("internal_error", `page ${page} is outside the guest's memory`);
      const mapEnd = map.firstPage + (map.end - map.start) / pageBytes;
      const pages = Math.min(run.page + run.pages - page, mapEnd - page, chunkBytes / pageBytes);
      yield { address: map.start + (page - map.firstPage) * pageBytes, page, pages };
      page += pages;
    }
  }
}

function readFully(fd: number, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length; ) {
    const got = readSync(fd, into, done, into.length - done, position + done);
    if (got === 0) throw new WrennError("internal_error", "the memory of a machine could not be read");
    done += got;
  }
}
