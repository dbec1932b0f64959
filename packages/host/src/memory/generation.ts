import { link, open, readdir, stat } from "node:fs/promises";
import { randomId } from "@wrenn/contract";
import { DataReader, DataWriter, segmentPages } from "./data-file.ts";
import { Cutter, encodeMap, MapBuilder, type Run, readMap, sourcesOf } from "./map.ts";
import { type Pages, PageView, pageBytes, TemplateMemory, zeroPages } from "./pages.ts";

/**
 * A guest's memory at one instant, as what differs from its template: the file `memory` says where each such page lies
 * (`map.ts`), the files `memory.{id}` hold them (`data-file.ts`). A generation that was saved over another writes only
 * the pages that differ from that one, and has the other's data files by hard links: removing any generation takes
 * nothing from the rest, and a folder can be moved or uploaded by itself.
 */
const mapName = "memory";
const dataName = (id: string): string => `memory.${id}`;

/** Each data file is one more to open and read from; beyond this a generation is written whole. */
const mostSources = 8;

/** Data files may hold this much more than what is still needed of them, as a factor and beyond it in bytes. */
const mostWaste = { factor: 2, bytes: 32 << 20 };

/** What a generation is saved against. */
export type Ground = {
  /** The template's memory file. */
  readonly template: string;
  /** Folder of the generation that the guest was restored from, or saved as last; `undefined` for none. */
  readonly base?: string | undefined;
  /** What pages hold that are not among those given: what they hold in the template, or in the base. */
  readonly others: "template" | "base";
};

/**
 * Saves `pages`, which ascend, into the folder `dir`, durably. A base that is damaged is not used, since everything is
 * still there to be saved, unless the other pages are the base's. Gives the bytes written.
 */
export async function saveGeneration(dir: string, pages: Iterable<Pages>, ground: Ground): Promise<{ bytes: number }> {
  const base = ground.base === undefined ? undefined : await Base.open(ground.base, ground.others === "base");
  await using _ = base;
  const id = randomId();
  await using data = new DataWriter(`${dir}/${dataName(id)}`);
  using template = new TemplateMemory(ground.template);
  const runs =
    ground.others === "base" && base
      ? await new Saver(id, data, template, base).saveOver(pages)
      : await new Saver(id, data, template, base).save(pages);
  for (const source of sourcesOf(runs))
    if (source !== id) await link(`${base!.dir}/${dataName(source)}`, `${dir}/${dataName(source)}`);
  const dataBytes = await data.finish();
  const map = encodeMap(runs);
  await using file = await open(`${dir}/${mapName}`, "wx", 0o600);
  await file.writeFile(map);
  await file.datasync();
  return { bytes: dataBytes + map.length };
}

/** Where restored pages go. */
export type Put = (page: number, bytes: Uint8Array) => void;

/**
 * Gives every page in which the generation in `dir` differs from the template, in pieces of at most a MiB. Throws
 * `internal_error` naming a file that is damaged: what was given before must not be used then.
 */
export async function loadGeneration(dir: string, put: Put): Promise<void> {
  await using base = await Base.open(dir, true);
  for (const run of base!.runs)
    for (let done = 0; done < run.pages; ) {
      const bytes = await base!.read(run, done, run.pages - done);
      put(run.page + done, bytes);
      done += bytes.length / pageBytes;
    }
}

/** Gives the generation in `from` a second name: the same files, by links, in the folder `into`. */
export async function linkGeneration(from: string, into: string): Promise<void> {
  for (const name of await readdir(from))
    if (name === mapName || name.startsWith(dataName(""))) await link(`${from}/${name}`, `${into}/${name}`);
}

/** A generation that is read from. */
class Base implements AsyncDisposable {
  private constructor(
    readonly dir: string,
    readonly runs: readonly Run[],
    readonly readers: ReadonlyMap<string, DataReader>,
  ) {}

  /** `undefined` for one that is no good to save over: damaged, or made of too many or too hollow files. */
  static async open(dir: string, isNeeded: boolean): Promise<Base | undefined> {
    const readers = new Map<string, DataReader>();
    try {
      const runs = await readMap(`${dir}/${mapName}`);
      const sources = sourcesOf(runs);
      if (!isNeeded && (sources.length >= mostSources || (await isHollow(dir, runs)))) return undefined;
      for (const id of sources) readers.set(id, await DataReader.open(`${dir}/${dataName(id)}`));
      return new Base(dir, runs, readers);
    } catch (thrown) {
      for (const reader of readers.values()) await reader[Symbol.asyncDispose]();
      if (isNeeded) throw thrown;
      return undefined;
    }
  }

  /** Pages of a run from its page `skip` on: as many as come at once, at most `pages`. */
  async read(run: Run, skip: number, pages: number): Promise<Uint8Array> {
    if (run.source === undefined) return zeroPages(Math.min(pages, segmentPages));
    return this.readers.get(run.source)!.read(run.offset + skip, pages);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const reader of this.readers.values()) await reader[Symbol.asyncDispose]();
  }
}

async function isHollow(dir: string, runs: readonly Run[]): Promise<boolean> {
  const needed = runs.reduce((sum, run) => sum + (run.source === undefined ? 0 : run.pages), 0) * pageBytes;
  const held = await Promise.all(sourcesOf(runs).map(async (id) => (await stat(`${dir}/${dataName(id)}`)).size));
  return held.reduce((sum, size) => sum + size, 0) > needed * mostWaste.factor + mostWaste.bytes;
}

/** One saving: decides for each page whether it is the base's, the template's, zero, or new. */
class Saver {
  readonly #map = new MapBuilder();

  constructor(
    readonly id: string,
    readonly data: DataWriter,
    readonly template: TemplateMemory,
    readonly base: Base | undefined,
  ) {}

  /** Pages that are not given are the template's. */
  async save(pages: Iterable<Pages>): Promise<Run[]> {
    const cutter = new Cutter(this.base?.runs ?? []);
    for (const { page, bytes } of pages)
      for (const piece of cutter.cut(page, bytes.length / pageBytes)) await this.#piece(piece, page, bytes);
    return this.#map.runs;
  }

  /** Pages that are not given are the base's. */
  async saveOver(pages: Iterable<Pages>): Promise<Run[]> {
    let next = 0;
    const [given, kept] = [new Cutter(this.base!.runs), new Cutter(this.base!.runs)];
    const keep = (until: number) => {
      for (const { page, pages: count, run } of kept.cut(next, until - next))
        if (run) this.#map.add({ page, pages: count, source: run.source, offset: run.offset + (page - run.page) });
    };
    for (const { page, bytes } of pages) {
      keep(page);
      for (const piece of given.cut(page, bytes.length / pageBytes)) await this.#piece(piece, page, bytes);
      next = page + bytes.length / pageBytes;
    }
    const last = this.base!.runs.at(-1);
    if (last) keep(Math.max(next, last.page + last.pages));
    return this.#map.runs;
  }

  /**
   * A piece of `all`, which begins at page `from`: in one run of the base, or in none. One that is in none is not compared
   * with the template: a page of its own is one that was written to, and hardly ever with what it held.
   */
  async #piece(
    piece: { page: number; pages: number; run: Run | undefined },
    from: number,
    all: Uint8Array,
  ): Promise<void> {
    const { run } = piece;
    const part = (page: number, pages: number): Pages => ({
      page,
      bytes: all.subarray((page - from) * pageBytes, (page - from + pages) * pageBytes),
    });
    if (!run) return this.#changed(part(piece.page, piece.pages));
    for (let done = 0; done < piece.pages; ) {
      const page = piece.page + done;
      const before = await this.base!.read(run, page - run.page, Math.min(piece.pages - done, segmentPages));
      await this.#compare(part(page, before.length / pageBytes), before, run);
      done += before.length / pageBytes;
    }
  }

  async #compare({ page, bytes }: Pages, before: Uint8Array, run: Run): Promise<void> {
    const count = bytes.length / pageBytes;
    const [now, then] = [new PageView(bytes), new PageView(before)];
    for (let i = 0; i < count; ) {
      const kind = now.isSame(then, i);
      let end = i + 1;
      while (end < count && now.isSame(then, end) === kind) end++;
      if (!kind) await this.#changed({ page: page + i, bytes: bytes.subarray(i * pageBytes, end * pageBytes) });
      else
        this.#map.add({ page: page + i, pages: end - i, source: run.source, offset: run.offset + page + i - run.page });
      i = end;
    }
  }

  /** Pages that are not what they were: zeros need no bytes, and none at all where the template has zeros too. */
  async #changed({ page, bytes }: Pages): Promise<void> {
    const count = bytes.length / pageBytes;
    const view = new PageView(bytes);
    for (let i = 0; i < count; ) {
      const kind = view.isZero(i);
      let end = i + 1;
      while (end < count && view.isZero(end) === kind) end++;
      if (kind) this.#zeros(page + i, end - i);
      else {
        const offset = await this.data.add(bytes.subarray(i * pageBytes, end * pageBytes));
        this.#map.add({ page: page + i, pages: end - i, source: this.id, offset });
      }
      i = end;
    }
  }

  #zeros(page: number, pages: number): void {
    for (let i = 0; i < pages; i++)
      if (!this.template.isZero(page + i)) this.#map.add({ page: page + i, pages: 1, source: undefined, offset: 0 });
  }
}
