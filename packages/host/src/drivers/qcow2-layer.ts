import { closeSync, ftruncateSync, openSync, readSync, statSync, writeSync } from "node:fs";
import type { BaseDisk } from "./ports.ts";

/**
 * Empty layers in the qcow2 format, version 3 (QEMU, docs/interop/qcow2.txt), as `qemu-img create` makes them, at a
 * fiftieth of its time. Numbers are big endian. The first cluster holds the header, what follows it and the name of the
 * base; the second the table of reference counts, the third its only block, the next ones the table of the guest's
 * clusters, which is empty: everything is read from the base.
 */
const magic = 0x5146_49fb; // "QFI" and 0xfb
const clusterBits = 16;
const clusterBytes = 1 << clusterBits;

/** Reference counts of 16 bits, as an exponent of 2. */
const refcountOrder = 4;
const headerBytes = 104;

/** Bytes of the guest's disk behind one entry of the first table: one cluster of entries that name a cluster each. */
const bytesAnEntry = clusterBytes * (clusterBytes / 8);

const at = { size: 24, refcountTable: 1, refcountBlock: 2, guestTable: 3 };
const extension = { backingFormat: 0xe279_2aca, end: 0 };

/** Writes an empty layer over `base`, which its header calls `name`, as the new file `path`. */
export function writeEmptyLayer(path: string, base: BaseDisk, name: string): void {
  const size = diskBytes(base);
  const entries = Math.ceil(size / bytesAnEntry);
  const clusters = at.guestTable + Math.max(1, Math.ceil((entries * 8) / clusterBytes));
  const counts = Buffer.alloc(clusters * 2);
  for (let cluster = 0; cluster < clusters; cluster++) counts.writeUInt16BE(1, cluster * 2);
  const file = openSync(path, "wx", 0o644);
  const write = (bytes: Uint8Array, cluster: number) => writeSync(file, bytes, 0, bytes.length, cluster * clusterBytes);
  try {
    write(header({ size, entries, name, format: base.format }), 0);
    write(bigEndian(8, at.refcountBlock * clusterBytes), at.refcountTable);
    write(counts, at.refcountBlock);
    ftruncateSync(file, clusters * clusterBytes);
  } finally {
    closeSync(file);
  }
}

type Header = { readonly size: number; readonly entries: number; readonly name: string; readonly format: string };

function header({ size, entries, name, format }: Header): Uint8Array {
  const nameBytes = Buffer.from(name);
  const extensions = [bigEndian(4, extension.backingFormat), bigEndian(4, format.length), padded(format)];
  const before = Buffer.concat([...extensions, bigEndian(8, extension.end)]);
  const fields: readonly (readonly [bytes: 4 | 8, value: number])[] = [
    [4, magic],
    [4, 3], // version
    [8, headerBytes + before.length], // where the name of the base is, and how long
    [4, nameBytes.length],
    [4, clusterBits],
    [8, size],
    [4, 0], // no encryption
    [4, entries],
    [8, at.guestTable * clusterBytes],
    [8, at.refcountTable * clusterBytes],
    [4, 1], // clusters of that table
    [4, 0], // no internal snapshots
    [8, 0],
    [8, 0], // features that a reader must know, may ignore, and must clear when it does
    [8, 0],
    [8, 0],
    [4, refcountOrder],
    [4, headerBytes],
  ];
  return Buffer.concat([...fields.map(([bytes, value]) => bigEndian(bytes, value)), before, nameBytes]);
}

/** Size of the disk that `base` is, in bytes: what its file is long, or what its header says. */
function diskBytes({ path, format }: BaseDisk): number {
  if (format === "raw") return Math.ceil(statSync(path).size / 512) * 512;
  const head = Buffer.alloc(at.size + 8);
  const file = openSync(path, "r");
  try {
    readSync(file, head, 0, head.length, 0);
  } finally {
    closeSync(file);
  }
  if (head.readUInt32BE(0) !== magic) throw new Error(`${path} is no qcow2 file`);
  return Number(head.readBigUInt64BE(at.size));
}

function bigEndian(bytes: 4 | 8, value: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  if (bytes === 4) buffer.writeUInt32BE(value);
  else buffer.writeBigUInt64BE(BigInt(value));
  return buffer;
}

/** Text filled with zeros to a multiple of eight bytes. */
const padded = (text: string): Buffer => Buffer.concat([Buffer.from(text), Buffer.alloc(-text.length & 7)]);
