import { expect, test } from "bun:test";
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { DmSnapshot } from "../src/drivers/dm/dm-snapshot.ts";
import { chunkBytes, writeEmpty, writeMerged } from "../src/drivers/dm/store.ts";

const chunks = 4_096;

const block = (fill: number): Uint8Array => new Uint8Array(chunkBytes).fill(fill);

/** Writes chunks into a layer's store as the kernel does (dm-snap-persistent.c): in the order in which they come. */
function kernelWrites(path: string, writes: readonly (readonly [chunk: number, fill: number])[]): void {
  const fd = openSync(path, "r+");
  writeSync(fd, new Uint8Array(new Uint32Array([0x70416e53, 1, 1, chunkBytes / 512]).buffer), 0, 16, 0);
  for (const [i, [chunk, fill]] of writes.entries()) {
    const area = 1 + Math.floor(i / 256) * 257;
    const place = area + 1 + (i % 256);
    writeSync(fd, block(fill), 0, chunkBytes, place * chunkBytes);
    const entry = new Uint8Array(new BigUint64Array([BigInt(chunk), BigInt(place)]).buffer);
    writeSync(fd, entry, 0, 16, area * chunkBytes + (i % 256) * 16);
  }
  closeSync(fd);
}

async function layers(): Promise<AsyncDisposable & { dir: string; base: string; low: string; high: string }> {
  const dir = await mkdtemp(`${tmpdir()}/wrenn-store-`);
  const [base, low, high] = [`${dir}/rootfs.ext4`, `${dir}/low.cow`, `${dir}/high.cow`];
  const content = new Uint8Array(chunks * chunkBytes);
  content.fill(1, 0, chunkBytes);
  await Bun.write(base, content);
  await Bun.$`fallocate --dig-holes ${base}`.quiet();
  writeEmpty(low, { path: base, format: "raw" }, (chunks * chunkBytes) / 512);
  writeEmpty(high, { path: low, format: "dm" }, (chunks * chunkBytes) / 512);
  return { ...{ dir, base, low, high }, [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) };
}

/** What each chunk is filled with; a chunk that is not of one value is -1. */
async function fills(path: string): Promise<number[]> {
  const bytes = await Bun.file(path).bytes();
  return Array.from({ length: bytes.length / chunkBytes }, (_, i) => {
    const chunk = bytes.subarray(i * chunkBytes, (i + 1) * chunkBytes);
    return chunk.every((byte) => byte === chunk[0]) ? chunk[0]! : -1;
  });
}

test("layers are copied out as the disk they show: the newest of each block, holes where nothing is", async () => {
  await using at = await layers();
  const lower = Array.from({ length: 600 }, (_, i) => [chunks - 1 - i, 2 + (i % 100)] as const); // more than two areas
  kernelWrites(at.low, lower);
  kernelWrites(at.high, [
    [7, 201],
    [chunks - 1, 202],
  ]);
  const expected = new Array<number>(chunks).fill(0);
  expected[0] = 1;
  for (const [chunk, fill] of lower) expected[chunk] = fill;
  expected[7] = 201;
  expected[chunks - 1] = 202;
  await new DmSnapshot().copyOut(at.high, `${at.dir}/plain`);
  expect(await fills(`${at.dir}/plain`)).toEqual(expected);
  expect(statSync(`${at.dir}/plain`).blocks * 512).toBeLessThan(700 * chunkBytes);
  writeMerged([at.high, at.low], `${at.dir}/flat.cow`, { path: at.base, format: "raw" });
  await new DmSnapshot().copyOut(`${at.dir}/flat.cow`, `${at.dir}/again`);
  expect(await fills(`${at.dir}/again`)).toEqual(expected);
});

test("a layer that the kernel gave up, and one whose base is gone, are not copied as if they were whole", async () => {
  await using at = await layers();
  kernelWrites(at.low, [[1, 9]]);
  const fd = openSync(at.low, "r+");
  writeSync(fd, new Uint8Array(4), 0, 4, 4); // "valid" is 0
  closeSync(fd);
  await expect(new DmSnapshot().copyOut(at.high, `${at.dir}/plain`)).rejects.toThrow("could not be copied");
  await rm(at.base);
  await expect(new DmSnapshot().copyOut(at.low, `${at.dir}/other`)).rejects.toThrow("could not be copied");
});
