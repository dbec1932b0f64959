import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { DataReader, DataWriter, segmentPages } from "../../src/memory/data-file.ts";
import { pageBytes } from "../../src/memory/pages.ts";

/** On a disk, where pages go past the system's cache, and in memory, where they cannot. */
const folders = await Promise.all([tmpdir(), "/dev/shm"].map((dir) => mkdtemp(`${dir}/wrenn-data-`)));
afterAll(() => Promise.all(folders.map((dir) => rm(dir, { recursive: true }))));

/** Pages of which each differs from the others; the last segment is not full. */
const pages = 4 * segmentPages + 100;
const page = (at: number) => new Uint8Array(pageBytes).fill((at * 7) % 251).fill(at >> 8, 0, 8);

async function written(path: string): Promise<number> {
  await using data = new DataWriter(path);
  // In pieces that end in the middle of a segment, as the runs of a guest's memory do.
  for (let at = 0; at < pages; ) {
    const count = Math.min(pages - at, 1 + ((at * 13) % 90));
    expect(await data.add(Buffer.concat(Array.from({ length: count }, (_, i) => page(at + i))))).toBe(at);
    at += count;
  }
  return await data.finish();
}

for (const dir of folders)
  test(`a data file in ${dir.replace(/-[^-]*$/, "")} has every page, in whatever order they are read`, async () => {
    const bytes = await written(`${dir}/data`);
    expect((await stat(`${dir}/data`)).size).toBe(bytes);
    await using reader = await DataReader.open(`${dir}/data`);
    const onwards = Array.from({ length: pages }, (_, at) => at);
    const jumping = Array.from({ length: pages }, (_, i) => (i * 389) % pages);
    for (const at of [...onwards, ...onwards.toReversed(), ...jumping])
      expect(Buffer.compare(await reader.read(at, 1), page(at)), `page ${at}`).toBe(0);
  });

test("damage in a segment that was read ahead is told when that is asked for, and only then", async () => {
  const path = `${folders[0]}/damaged`;
  await written(path);
  const whole = await Bun.file(path).bytes();
  whole[segmentPages * pageBytes + 5]! ^= 1;
  await Bun.write(path, whole);
  await using reader = await DataReader.open(path);
  expect(Buffer.compare(await reader.read(0, 1), page(0))).toBe(0);
  await expect(reader.read(segmentPages, 1)).rejects.toMatchObject({ details: { file: path } });
  expect(Buffer.compare(await reader.read(2 * segmentPages, 1), page(2 * segmentPages))).toBe(0);
});
