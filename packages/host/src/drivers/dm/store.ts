import { closeSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { basename, dirname } from "node:path";
import { setImmediate } from "node:timers/promises";
import { WrennError } from "@wrenn/contract";
import type { BaseDisk } from "../ports.ts";

/**
 * A layer's file: the persistent exception store of the kernel's snapshot target (drivers/md/dm-snap-persistent.c), then
 * one block of ours that says what the layer lies on. The file is sparse and large enough for every block of the disk,
 * so that no guest can overflow its store, which the kernel would answer by losing all of it.
 *
 * The store is made of chunks. Chunk 0 is the header. Then follow areas: one chunk with the places of the next 256 chunks
 * (number on the disk, number in the store), and those chunks.
 */
export const chunkBytes = 4096;
export const chunkSectors = chunkBytes / 512;
const perArea = chunkBytes / 16;
const headerMagic = 0x70416e53; // "SnAp"
const trailerBytes = 4096;
const trailerMagic = "WRNLAYER";

/** What a layer's file says of itself. */
export type Layer = { readonly base: BaseDisk; readonly sectors: number; readonly storeBytes: number };

/** Makes the file of an empty layer over `base`. A base in the same folder is named relatively, so the folder can be renamed. */
export function writeEmpty(path: string, base: BaseDisk, sectors: number): void {
  const fd = openSync(path, "wx", 0o600);
  try {
    writeTrailer(fd, path, { base, sectors });
  } finally {
    closeSync(fd);
  }
}

/** Reads what a layer lies on. Throws `not_found` when the file is not there, `internal_error` when it is no layer. */
export function readLayer(path: string): Layer {
  const fd = open(path);
  try {
    const { size } = fstatSync(fd);
    const block = new Uint8Array(trailerBytes);
    const got = size >= trailerBytes ? readSync(fd, block, 0, trailerBytes, size - trailerBytes) : 0;
    const text = new TextDecoder().decode(block.subarray(0, block.indexOf(0)));
    if (got !== trailerBytes || !text.startsWith(trailerMagic))
      throw new WrennError("internal_error", `${path} is not a disk layer, or is damaged`);
    const { base, sectors } = JSON.parse(text.slice(trailerMagic.length)) as Omit<Layer, "storeBytes">;
    const isRelative = !base.path.startsWith("/");
    return {
      base: { ...base, path: isRelative ? `${dirname(path)}/${base.path}` : base.path },
      ...{ sectors, storeBytes: size - trailerBytes },
    };
  } finally {
    closeSync(fd);
  }
}

/** Names another base in a layer's file. */
export function moveBase(path: string, base: BaseDisk): void {
  const { sectors } = readLayer(path);
  const fd = openSync(path, "r+");
  try {
    writeTrailer(fd, path, { base, sectors });
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writes to the new file `out` the layer that shows what the layers of `chain`, the newest first, show together over `base`. */
export function writeMerged(chain: readonly string[], out: string, base: BaseDisk): void {
  const { sectors } = readLayer(chain[0]!);
  const sources = chain.map((path) => open(path));
  const fd = openSync(out, "wx", 0o600);
  try {
    writeHeader(fd);
    const table = new BigUint64Array(perArea * 2);
    const data = new Uint8Array(chunkBytes);
    newestOf(sources).forEach(([disk, { source, chunk }], i) => {
      const area = areaOf(i);
      if (i % perArea === 0) table.fill(0n);
      readFully(source, data, chunk * chunkBytes);
      writeSync(fd, data, 0, chunkBytes, (area + 1 + (i % perArea)) * chunkBytes);
      table.set([BigInt(disk), BigInt(area + 1 + (i % perArea))], (i % perArea) * 2);
      writeSync(fd, new Uint8Array(table.buffer), 0, chunkBytes, area * chunkBytes);
    });
    writeTrailer(fd, out, { base, sectors });
    fdatasyncSync(fd);
  } finally {
    for (const source of [fd, ...sources]) closeSync(source);
  }
}

/** Blocks that are copied at one go, a few milliseconds' worth: the agent serves others between. */
const atOnce = 1_024;

/** Writes to the plain disk `onto` what the layers of `chain`, the newest first, show together over it. */
export async function overlay(chain: readonly string[], onto: string): Promise<void> {
  const sources = chain.map((path) => open(path));
  const fd = openSync(onto, "r+");
  try {
    ftruncateSync(fd, readLayer(chain[0]!).sectors * 512);
    const data = new Uint8Array(chunkBytes);
    for (const [i, [disk, { source, chunk }]] of newestOf(sources).entries()) {
      if (i % atOnce === 0) await setImmediate();
      readFully(source, data, chunk * chunkBytes);
      writeSync(fd, data, 0, chunkBytes, disk * chunkBytes);
    }
  } finally {
    for (const source of [fd, ...sources]) closeSync(source);
  }
}

type Place = { readonly source: number; readonly chunk: number };

/** By chunk of the disk, in their order, where its newest version stands: in the first of the stores that has one. */
function newestOf(sources: readonly number[]): [disk: number, Place][] {
  const newest = new Map<number, Place>();
  for (const source of sources)
    for (const [disk, chunk] of places(source)) if (!newest.has(disk)) newest.set(disk, { source, chunk });
  return [...newest.entries()].sort(([a], [b]) => a - b);
}

/** The places of a store: chunk of the disk, chunk of the store. */
function* places(fd: number): Generator<[disk: number, store: number]> {
  const head = new Uint8Array(16);
  if (readSync(fd, head, 0, 16, 0) < 16) return;
  const view = new DataView(head.buffer);
  if (view.getUint32(0, true) !== headerMagic) return; // never written to
  if (view.getUint32(4, true) !== 1)
    throw new WrennError("internal_error", "a disk layer was invalidated by the kernel: its data is lost");
  const table = new BigUint64Array(perArea * 2);
  for (let first = 0; ; first += perArea) {
    table.fill(0n);
    readSync(fd, new Uint8Array(table.buffer), 0, chunkBytes, areaOf(first) * chunkBytes);
    for (let i = 0; i < perArea; i++) {
      if (table[i * 2 + 1] === 0n) return;
      yield [Number(table[i * 2]), Number(table[i * 2 + 1])];
    }
  }
}

/** The chunk with the places of the area in which the place number `index` stands. */
const areaOf = (index: number): number => 1 + Math.floor(index / perArea) * (perArea + 1);

function writeHeader(fd: number): void {
  const head = new Uint8Array(chunkBytes);
  const view = new DataView(head.buffer);
  [headerMagic, 1, 1, chunkSectors].forEach((word, i) => {
    view.setUint32(i * 4, word, true); // magic, valid, version, chunk size
  });
  writeSync(fd, head, 0, chunkBytes, 0);
}

function writeTrailer(fd: number, path: string, { base, sectors }: Omit<Layer, "storeBytes">): void {
  const chunks = Math.ceil(sectors / chunkSectors);
  const areas = Math.ceil(chunks / perArea);
  const storeBytes = (1 + areas + chunks + perArea) * chunkBytes; // an area begun counts whole
  const name = dirname(base.path) === dirname(path) ? basename(base.path) : base.path;
  const text = `${trailerMagic}${JSON.stringify({ base: { path: name, format: base.format }, sectors })}`;
  ftruncateSync(fd, storeBytes + trailerBytes);
  const bytes = new Uint8Array(trailerBytes); // whole, so that nothing of a longer one before is left
  bytes.set(new TextEncoder().encode(text));
  writeSync(fd, bytes, 0, bytes.length, storeBytes);
}

function open(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    throw new WrennError("not_found", `the disk ${path} is missing`, { cause });
  }
}

function readFully(fd: number, into: Uint8Array, position: number): void {
  if (readSync(fd, into, 0, into.length, position) !== into.length)
    throw new WrennError("internal_error", "a disk layer ends too early");
}
