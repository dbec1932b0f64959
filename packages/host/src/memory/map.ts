import { damaged } from "./data-file.ts";
import { sumBytes, sumOf } from "./sum.ts";

/** Where the pages of a run lie: in a data file, from page `offset` of it on, or nowhere because they are zero. */
export type Run = {
  readonly page: number;
  readonly pages: number;
  /** Id of the data file; `undefined` for zeros. */
  readonly source: string | undefined;
  readonly offset: number;
};

/**
 * Which pages of a guest differ from its template's, and where they lie. Little endian: 8 bytes magic, u32 sources, u32
 * runs; 8 bytes sum of all that follows; for each source 32 bytes of its id, padded with zeros; for each run, in
 * ascending order, u32 first page, u32 pages, u32 number of its source or 0xffffffff for zeros, u32 first page there.
 */
const magic = "WRNMAP02";
const headBytes = 16 + sumBytes;
const idBytes = 32;
const runBytes = 16;
const zero = 0xffff_ffff;

/** The ids of the data files that runs lie in. */
export const sourcesOf = (runs: Iterable<Run>): string[] => [
  ...new Set([...runs].flatMap(({ source }) => source ?? [])),
];

/** Runs as bytes. */
export function encodeMap(runs: readonly Run[]): Uint8Array {
  const sources = sourcesOf(runs);
  const numbers = new Map(sources.map((id, at) => [id, at]));
  const all = new Uint8Array(headBytes + sources.length * idBytes + runs.length * runBytes);
  const view = new DataView(all.buffer);
  const text = new TextEncoder();
  all.set(text.encode(magic));
  view.setUint32(8, sources.length, true);
  view.setUint32(12, runs.length, true);
  sources.forEach((id, at) => void text.encodeInto(id, all.subarray(headBytes + at * idBytes)));
  runs.forEach((run, i) => {
    const at = headBytes + sources.length * idBytes + i * runBytes;
    view.setUint32(at, run.page, true);
    view.setUint32(at + 4, run.pages, true);
    view.setUint32(at + 8, run.source === undefined ? zero : numbers.get(run.source)!, true);
    view.setUint32(at + 12, run.offset, true);
  });
  all.set(sumOf(all.subarray(headBytes)), 16);
  return all;
}

/** The runs in the file `path`. Throws `internal_error` naming it when it is no such file, or damaged. */
export async function readMap(path: string): Promise<Run[]> {
  const file = Bun.file(path);
  if (!(await file.exists())) throw damaged(path, "it is missing");
  const all = await file.bytes();
  const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
  if (all.length < headBytes || new TextDecoder().decode(all.subarray(0, 8)) !== magic)
    throw damaged(path, "it is no memory snapshot");
  const [sources, runs] = [view.getUint32(8, true), view.getUint32(12, true)];
  if (all.length !== headBytes + sources * idBytes + runs * runBytes) throw damaged(path, "its length is wrong");
  if (Buffer.compare(sumOf(all.subarray(headBytes)), all.subarray(16, headBytes)) !== 0)
    throw damaged(path, "its checksum differs");
  const ids = Array.from({ length: sources }, (_, at) => {
    const id = all.subarray(headBytes + at * idBytes, headBytes + (at + 1) * idBytes);
    return new TextDecoder().decode(id).replace(/\0+$/, "");
  });
  return Array.from({ length: runs }, (_, i) => {
    const at = headBytes + sources * idBytes + i * runBytes;
    const source = view.getUint32(at + 8, true);
    const place = { page: view.getUint32(at, true), pages: view.getUint32(at + 4, true) };
    return { ...place, source: source === zero ? undefined : ids[source], offset: view.getUint32(at + 12, true) };
  });
}

/** Gathers runs in ascending order; one that continues the last becomes part of it. */
export class MapBuilder {
  readonly runs: { page: number; pages: number; source: string | undefined; offset: number }[] = [];

  add({ page, pages, source, offset }: Run): void {
    const last = this.runs.at(-1);
    const continues =
      last &&
      last.page + last.pages === page &&
      last.source === source &&
      (source === undefined || last.offset + last.pages === offset);
    if (continues) last.pages += pages;
    else this.runs.push({ page, pages, source, offset });
  }
}

/** Cuts `page … page + pages` where the runs of a map begin and end; a piece outside every run has no `run`. */
export class Cutter {
  #at = 0;

  constructor(readonly runs: readonly Run[]) {}

  /** Calls must ascend. */
  *cut(page: number, pages: number): Generator<{ page: number; pages: number; run: Run | undefined }> {
    const end = page + pages;
    for (let next = page; next < end; ) {
      while (this.#at < this.runs.length && this.runs[this.#at]!.page + this.runs[this.#at]!.pages <= next) this.#at++;
      const run = this.runs[this.#at];
      const isInside = run !== undefined && run.page <= next;
      const until = Math.min(end, run === undefined ? end : isInside ? run.page + run.pages : run.page);
      yield { page: next, pages: until - next, run: isInside ? run : undefined };
      next = until;
    }
  }
}
