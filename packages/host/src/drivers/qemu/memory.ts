import { closeSync, fdatasyncSync, fstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { WrennError } from "@wrenn/contract";

/**
 * A guest's memory is a private mapping of its template's memory file, so the pages it changed are the anonymous pages of
 * that mapping: found in /proc/PID/pagemap, read and written through /proc/PID/mem (Linux, admin-guide/mm/pagemap.rst).
 * Unchanged pages stay shared with the template, and saving costs what was changed.
 *
 * File layout, little endian: 8 bytes magic, u32 number of runs, u32 reserved; per run u32 first page, u32 number of
 * pages; then, from the next multiple of the page size, the pages of all runs in order.
 */

const pageSize = 4096;
const magic = "WRNPAGE1";
const headerBytes = 16;
/** One system call moves this much at most; more gains nothing and holds the event loop longer. */
const chunkBytes = 1 << 20;
/** A checkpoint of a live sandbox copies this much at most, so that many at once cannot exhaust this process's memory. */
const maxCopiedBytes = 256 << 20;

/** Upper halves of pagemap entries: bit 63 in memory, bit 62 swapped out, bit 61 the page is the file's. */
const ownMask = 0xe000_0000;
const presentOwn = 0x8000_0000;
const swappedOwn = 0x4000_0000;

type Mapping = { readonly start: number; readonly end: number; readonly firstPage: number };
type Run = { readonly page: number; readonly pages: number };

/** Where the file `path` is mapped in a process: one entry a mapping, since advice on ranges may split it. */
function mappings(pid: number, path: string): Mapping[] {
  const found: Mapping[] = [];
  for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
    const [range, , offset, , , ...name] = line.split(/\s+/);
    if (!range || name.join(" ").replace(/ \(deleted\)$/, "") !== path) continue;
    const [start, end] = range.split("-").map((hex) => Number.parseInt(hex, 16));
    found.push({ start: start!, end: end!, firstPage: Number.parseInt(offset!, 16) / pageSize });
  }
  if (found.length === 0) throw new WrennError("internal_error", `process ${pid} does not map ${path}`);
  return found;
}

/** The pages that `pid` changed in its private mapping of `path`, as runs in ascending order. */
export function changedRuns(pid: number, path: string): Run[] {
  const runs: { page: number; pages: number }[] = [];
  const fd = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    for (const mapping of mappings(pid, path)) {
      const count = (mapping.end - mapping.start) / pageSize;
      const halves = new Uint32Array(count * 2); // little endian: the upper half of entry i is at 2i + 1
      readFully(fd, new Uint8Array(halves.buffer), (mapping.start / pageSize) * 8);
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

/** What `takeChanged` holds until it is written. */
export type Taken = { write(out: string): { bytes: number; sha256: string } };

/**
 * Takes the changed pages of a stopped process. Up to a bound they are copied, so that the process may run on before
 * they are written; more are read when `write` is called, and the process must stay stopped until then: `isCopied` tells.
 */
export function takeChanged(pid: number, path: string): Taken & { isCopied: boolean } {
  const runs = changedRuns(pid, path);
  const bytes = runs.reduce((sum, run) => sum + run.pages, 0) * pageSize;
  if (bytes > maxCopiedBytes)
    return { isCopied: false, write: (out) => writeChanged(runs, chunksOf(pid, path, runs), out) };
  const copies = Array.from(chunksOf(pid, path, runs), (chunk) => chunk.slice());
  return { isCopied: true, write: (out) => writeChanged(runs, copies, out) };
}

/** The pages of `runs`, chunk by chunk; each chunk is valid until the next is taken. */
function* chunksOf(pid: number, path: string, runs: readonly Run[]): Generator<Uint8Array> {
  const memory = openSync(`/proc/${pid}/mem`, "r");
  try {
    const buffer = new Uint8Array(chunkBytes);
    for (const piece of pieces(runs, mappings(pid, path))) {
      const part = buffer.subarray(0, piece.bytes);
      readFully(memory, part, piece.address);
      yield part;
    }
  } finally {
    closeSync(memory);
  }
}

function writeChanged(
  runs: readonly Run[],
  chunks: Iterable<Uint8Array>,
  out: string,
): { bytes: number; sha256: string } {
  const hash = new Bun.CryptoHasher("sha256");
  const target = openSync(out, "wx", 0o600);
  try {
    let position = append(target, encodeHeader(runs), 0, hash);
    for (const chunk of chunks) position = append(target, chunk, position, hash);
    fdatasyncSync(target);
    return { bytes: position, sha256: hash.digest("hex") };
  } finally {
    closeSync(target);
  }
}

/**
 * Writes the pages of a file of `takeChanged` into the private mapping of `path` of a process that waits for them.
 * Gives the file's SHA-256, taken on the way: the process must not run before it was compared.
 */
export function loadChanged(pid: number, path: string, saved: string): string {
  const hash = new Bun.CryptoHasher("sha256");
  const source = openSync(saved, "r");
  const memory = openSync(`/proc/${pid}/mem`, "r+");
  try {
    const { runs, dataOffset } = readHeader(source, saved, hash);
    const buffer = new Uint8Array(chunkBytes);
    let position = dataOffset;
    for (const piece of pieces(runs, mappings(pid, path))) {
      const part = buffer.subarray(0, piece.bytes);
      readFully(source, part, position);
      hash.update(part);
      for (let done = 0; done < part.length; )
        done += writeSync(memory, part, done, part.length - done, piece.address + done);
      position += part.length;
    }
    return hash.digest("hex");
  } finally {
    closeSync(memory);
    closeSync(source);
  }
}

function encodeHeader(runs: readonly Run[]): Uint8Array {
  const padded = new Uint8Array(paddedHeader(runs.length));
  const view = new DataView(padded.buffer);
  padded.set(new TextEncoder().encode(magic));
  view.setUint32(8, runs.length, true);
  runs.forEach((run, i) => {
    view.setUint32(headerBytes + i * 8, run.page, true);
    view.setUint32(headerBytes + i * 8 + 4, run.pages, true);
  });
  return padded;
}

function readHeader(fd: number, name: string, hash: Bun.CryptoHasher): { runs: Run[]; dataOffset: number } {
  const first = new Uint8Array(pageSize);
  readFully(fd, first, 0);
  if (new TextDecoder().decode(first.subarray(0, 8)) !== magic)
    throw new WrennError("internal_error", `${name} is not a memory snapshot`);
  const count = new DataView(first.buffer).getUint32(8, true);
  const dataOffset = paddedHeader(count);
  if (dataOffset > fstatSync(fd).size) throw new WrennError("internal_error", `the memory snapshot ${name} is damaged`);
  const head = new Uint8Array(dataOffset);
  readFully(fd, head, 0);
  hash.update(head);
  const view = new DataView(head.buffer, headerBytes);
  const runs = Array.from({ length: count }, (_, i) => ({
    page: view.getUint32(i * 8, true),
    pages: view.getUint32(i * 8 + 4, true),
  }));
  return { runs, dataOffset };
}

const paddedHeader = (runs: number): number => Math.ceil((headerBytes + runs * 8) / pageSize) * pageSize;

/** The runs cut into pieces that lie in one mapping and in one chunk, with the address of each. */
function* pieces(runs: readonly Run[], maps: readonly Mapping[]): Generator<{ address: number; bytes: number }> {
  for (const run of runs) {
    for (let page = run.page; page < run.page + run.pages; ) {
      const map = maps.find((m) => page >= m.firstPage && page < m.firstPage + (m.end - m.start) / pageSize);
      if (!map) throw new WrennError("internal_error", `page ${page} is outside the guest's memory`);
      const mapEnd = map.firstPage + (map.end - map.start) / pageSize;
      const pages = Math.min(run.page + run.pages - page, mapEnd - page, chunkBytes / pageSize);
      yield { address: map.start + (page - map.firstPage) * pageSize, bytes: pages * pageSize };
      page += pages;
    }
  }
}

function append(fd: number, bytes: Uint8Array, position: number, hash: Bun.CryptoHasher): number {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
  hash.update(bytes);
  return position + bytes.length;
}

function readFully(fd: number, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length; ) {
    const got = readSync(fd, into, done, into.length - done, position + done);
    if (got === 0) throw new WrennError("internal_error", "a memory snapshot ends too early");
    done += got;
  }
}
