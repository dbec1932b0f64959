import { dlopen, FFIType } from "bun:ffi";
import { type FileHandle, open } from "node:fs/promises";

/** Bytes that are looked at together. Part of the digest's definition: another value gives other digests. */
const blockBytes = 65_536;

/** lseek(2), Linux values: the next byte that is no hole, the next hole. */
const seekData = 3;
const seekHole = 4;

/** Start and end of each stretch of a file that is not a hole. A file system without holes has one stretch: all of it. */
function stretches(fd: number, size: number): [number, number][] {
  const { i32: int, i64 } = FFIType;
  const libc = dlopen("libc.so.6", { lseek: { args: [int, i64, int], returns: i64 } });
  const seek = (from: number, whence: number) => Number(libc.symbols.lseek(fd, BigInt(from), whence));
  const found: [number, number][] = [];
  for (let end = 0; end < size; ) {
    const start = seek(end, seekData);
    if (start < 0) break; // nothing but a hole up to the end
    end = seek(start, seekHole);
    found.push([start, end]);
  }
  return found;
}

/** The numbers of the blocks that touch a stretch, ascending. */
function* blocksOf(found: readonly [number, number][]): Generator<number> {
  let next = 0;
  for (const [start, end] of found) {
    for (let block = Math.max(next, Math.floor(start / blockBytes)); block * blockBytes < end; block++) {
      yield block;
      next = block + 1;
    }
  }
}

/**
 * `sha256:…` over the blocks of 64 KiB that are not all zero, each preceded by its offset (8 bytes, little-endian), and
 * at the end the size of the file. It depends on the content alone, not on which zeros are holes, and takes a second for
 * a file of 5 GiB with 300 MB in it, where plain SHA-256 takes thirty.
 */
export async function sparseDigest(path: string): Promise<string> {
  await using file = await open(path);
  const size = (await file.stat()).size;
  const hash = new Bun.CryptoHasher("sha256");
  const number = Buffer.alloc(8);
  const zeros = Buffer.alloc(blockBytes);
  const buffer = Buffer.alloc(blockBytes);
  for (const index of blocksOf(stretches(file.fd, size))) {
    const block = await readBlock(file, buffer, index * blockBytes);
    if (block.equals(zeros.subarray(0, block.length))) continue;
    number.writeBigUInt64LE(BigInt(index * blockBytes));
    hash.update(number).update(block);
  }
  number.writeBigUInt64LE(BigInt(size));
  return `sha256:${hash.update(number).digest("hex")}`;
}

async function readBlock(file: FileHandle, buffer: Buffer, at: number): Promise<Buffer> {
  const { bytesRead } = await file.read(buffer, 0, blockBytes, at);
  return buffer.subarray(0, bytesRead);
}
