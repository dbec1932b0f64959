import { expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { WrennError } from "@wrenn/contract";
import fc from "fast-check";
import { type Ground, linkGeneration, loadGeneration, saveGeneration } from "../../src/memory/generation.ts";
import { type Pages, pageBytes } from "../../src/memory/pages.ts";

/** More than a segment, so that runs cross the borders of reads and sums. */
const pages = 700;

const at = (page: number) => page * pageBytes;

/** A guest's memory over a template of which every third page is zero. */
class Guest implements AsyncDisposable {
  readonly memory: Uint8Array;
  readonly original: Uint8Array;

  private constructor(
    readonly dir: string,
    template: Uint8Array,
  ) {
    this.original = template;
    this.memory = template.slice();
  }

  static async start(): Promise<Guest> {
    const dir = await mkdtemp(`${tmpdir()}/wrenn-memory-`);
    const template = new Uint8Array(pages * pageBytes);
    for (let page = 0; page < pages; page++)
      if (page % 3 !== 0) template.fill((page % 255) + 1, at(page), at(page + 1));
    await writeFile(`${dir}/template`, template);
    return new Guest(dir, template);
  }

  write(page: number, value: number): void {
    this.memory.fill(value, at(page), at(page + 1));
  }

  /** The pages that are not the template's, and some that are all the same, as a mapping has them that was written to. */
  *changed(alsoEvery = 50): Generator<Pages> {
    for (let page = 0; page < pages; page++) {
      const bytes = this.memory.subarray(at(page), at(page + 1));
      const isChanged = Buffer.compare(bytes, this.original.subarray(at(page), at(page + 1))) !== 0;
      if (isChanged || page % alsoEvery === 0) yield { page, bytes };
    }
  }

  async save(name: string, ground: Partial<Ground> & { pages?: Iterable<Pages> } = {}): Promise<number> {
    const { pages: given = this.changed(), ...rest } = ground;
    await mkdir(`${this.dir}/${name}`);
    const base = rest.base && `${this.dir}/${rest.base}`;
    const where = { template: `${this.dir}/template`, others: "template", ...rest, base } as const;
    return (await saveGeneration(`${this.dir}/${name}`, given, where)).bytes;
  }

  async load(name: string): Promise<Uint8Array> {
    const found = this.original.slice();
    await loadGeneration(`${this.dir}/${name}`, (page, bytes) => found.set(bytes, at(page)));
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true });
  }
}

const write = fc.record({
  page: fc.integer({ min: 0, max: pages - 1 }),
  count: fc.integer({ min: 1, max: 300 }),
  kind: fc.constantFrom("zero", "data", "template", "same"),
  value: fc.integer({ min: 1, max: 255 }),
});

function apply(guest: Guest, writes: readonly (typeof write extends fc.Arbitrary<infer T> ? T : never)[]): Set<number> {
  const touched = new Set<number>();
  for (const { page, count, kind, value } of writes)
    for (let one = page; one < Math.min(pages, page + count); one++) {
      touched.add(one);
      if (kind === "template") guest.memory.set(guest.original.subarray(at(one), at(one + 1)), at(one));
      else if (kind !== "same") guest.write(one, kind === "zero" ? 0 : (value + one) % 256);
    }
  return touched;
}

test("twenty rounds of random writes, zeroed pages included, lose no byte, whatever is deleted on the way", async () => {
  const round = fc.array(write, { maxLength: 6 });
  const rounds = fc.array(fc.tuple(round, fc.boolean(), fc.boolean()), { minLength: 20, maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(rounds, async (all) => {
      await using guest = await Guest.start();
      let base: string | undefined;
      for (const [i, [writes, isDirtyOnly, isDeleted]] of all.entries()) {
        const touched = apply(guest, writes);
        const dirty = [...touched]
          .sort((a, b) => a - b)
          .map((page) => ({ page, bytes: guest.memory.subarray(at(page), at(page + 1)) }));
        const knowsDirty = isDirtyOnly && base !== undefined; // as a VMM that tracks what was written to
        await guest.save(`g${i}`, { base, ...(knowsDirty && { others: "base", pages: dirty }) });
        if (isDeleted && base) await rm(`${guest.dir}/${base}`, { recursive: true });
        base = `g${i}`;
        expect(Buffer.compare(await guest.load(base), guest.memory)).toBe(0);
      }
    }),
    { numRuns: 8 },
  );
}, 60_000);

test("a generation over another holds only what is new; what was zeroed costs no bytes", async () => {
  await using guest = await Guest.start();
  for (let page = 0; page < 300; page++) guest.write(page, 7);
  const first = await guest.save("first");
  expect(first).toBeGreaterThan(300 * pageBytes);
  guest.write(10, 8);
  for (let page = 100; page < 200; page++) guest.write(page, 0);
  const second = await guest.save("second", { base: "first" });
  expect(second).toBeLessThan(2 * pageBytes);
  expect(Buffer.compare(await guest.load("second"), guest.memory)).toBe(0);
  const { nlink } = await stat(
    `${guest.dir}/first/${(await readdir(`${guest.dir}/first`)).find((n) => n !== "memory")}`,
  );
  expect(nlink).toBe(2);
});

test("a chain never has many files: the one after the eighth is whole", async () => {
  await using guest = await Guest.start();
  const files: number[] = [];
  for (let i = 0; i < 20; i++) {
    guest.write(i * 3, 9);
    await guest.save(`g${i}`, i === 0 ? {} : { base: `g${i - 1}` });
    files.push((await readdir(`${guest.dir}/g${i}`)).length - 1);
  }
  expect(Math.max(...files)).toBe(8);
  expect(files.filter((count) => count === 1).length).toBe(3);
  expect(Buffer.compare(await guest.load("g19"), guest.memory)).toBe(0);
});

test("any flipped byte and any cut file is refused by name", async () => {
  await using guest = await Guest.start();
  for (let page = 0; page < 400; page++) guest.write(page, 7);
  await guest.save("first");
  guest.write(3, 1);
  await guest.save("second", { base: "first" });
  for (const name of await readdir(`${guest.dir}/second`)) {
    const path = `${guest.dir}/second/${name}`;
    const whole = await Bun.file(path).bytes();
    const offsets = [0, 9, 17, Math.floor(whole.length / 2), whole.length - 60, whole.length - 1];
    for (const offset of offsets.filter((one) => one >= 0 && one < whole.length)) {
      const broken = whole.slice();
      broken[offset]! ^= 1;
      await writeFile(path, broken);
      const thrown = await guest.load("second").catch((error) => error);
      expect([thrown instanceof WrennError && thrown.details?.file, offset]).toEqual([path, offset]);
    }
    for (const length of [0, 30, whole.length - 1]) {
      await writeFile(path, whole);
      await truncate(path, length);
      const thrown = await guest.load("second").catch((error) => error);
      expect(thrown instanceof WrennError && thrown.details?.file).toBe(path);
    }
    await writeFile(path, whole);
  }
  expect(Buffer.compare(await guest.load("second"), guest.memory)).toBe(0);
});

test("a damaged base is not saved over: the generation is whole then", async () => {
  await using guest = await Guest.start();
  for (let page = 0; page < 100; page++) guest.write(page, 7);
  await guest.save("first");
  await writeFile(`${guest.dir}/first/memory`, "no map");
  await guest.save("second", { base: "first" });
  await rm(`${guest.dir}/first`, { recursive: true });
  expect(Buffer.compare(await guest.load("second"), guest.memory)).toBe(0);
});

test("a linked generation is the same and stays when the first is removed", async () => {
  await using guest = await Guest.start();
  guest.write(1, 9);
  await guest.save("first");
  await writeFile(`${guest.dir}/first/device`, "not memory");
  await mkdir(`${guest.dir}/second`);
  await linkGeneration(`${guest.dir}/first`, `${guest.dir}/second`);
  await rm(`${guest.dir}/first`, { recursive: true });
  expect(await readdir(`${guest.dir}/second`)).not.toContain("device");
  expect(Buffer.compare(await guest.load("second"), guest.memory)).toBe(0);
});
