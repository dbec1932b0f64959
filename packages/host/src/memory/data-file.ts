import { type FileHandle, open } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import { pageBytes } from "./pages.ts";
import { sumBytes, sumOf } from "./sum.ts";

/**
 * A file of pages that proves itself, little endian: the pages; for each segment of 256 of them its sum; then 8 bytes
 * magic, u32 pages, u32 zero, and the sum over all sums and the 16 bytes before. A reader checks each segment that it
 * reads, so a flipped bit or a cut end is found before a guest sees it.
 */
const magic = "WRNDATA2";
const headBytes = 16;
const trailerBytes = headBytes + sumBytes;

/** One read, one write and one sum cover this many pages: a MiB. */
export const segmentPages = 256;

/** Says which file cannot be used, and what to do. */
export const damaged = (path: string, how: string): WrennError =>
  new WrennError("internal_error", `the snapshot file ${path} is damaged: ${how}`, {
    remedy: "Restore the file from a backup; the sandbox cannot be resumed without it.",
    details: { file: path },
  });

/** After so many segments the system is asked to begin writing to the disk, which then works beside this process. */
const segmentsAPush = 8;

/**
 * Writes a data file page by page; the file is made with the first page. While one segment is written, its sum is
 * computed and the next one is filled.
 */
export class DataWriter implements AsyncDisposable {
  readonly #segments = [new Uint8Array(segmentPages * pageBytes), new Uint8Array(segmentPages * pageBytes)] as const;
  readonly #sums: Uint8Array[] = [];
  #filled = 0;
  #file: FileHandle | undefined;
  #writing: Promise<unknown> = Promise.resolve();
  #pushing: Promise<unknown> = Promise.resolve();
  /** Pages so far. */
  pages = 0;

  constructor(readonly path: string) {}

  /** Adds whole pages; gives the number of the first in this file. */
  async add(bytes: Uint8Array): Promise<number> {
    const first = this.pages;
    for (let done = 0; done < bytes.length; ) {
      const segment = this.#segment;
      const part = bytes.subarray(done, done + segment.length - this.#filled);
      segment.set(part, this.#filled);
      this.#filled += part.length;
      done += part.length;
      if (this.#filled === segment.length) await this.#flush();
    }
    this.pages += bytes.length / pageBytes;
    return first;
  }

  /** Completes the file, durably; gives its size in bytes, 0 when there is none. */
  async finish(): Promise<number> {
    if (this.pages === 0) return 0;
    await this.#flush();
    const head = new Uint8Array(headBytes);
    head.set(new TextEncoder().encode(magic));
    new DataView(head.buffer).setUint32(8, this.pages, true);
    const told = Buffer.concat([...this.#sums, head]);
    const tail = Buffer.concat([told, sumOf(told)]);
    await this.#settled();
    await writeFully(this.#file!, tail, this.pages * pageBytes);
    await this.#file!.datasync();
    return this.pages * pageBytes + tail.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#settled().catch(() => {}); // whoever waited for it was told
    await this.#file?.close();
  }

  /** The one that is being filled. */
  get #segment(): Uint8Array {
    return this.#segments[this.#sums.length % 2]!;
  }

  async #flush(): Promise<void> {
    if (this.#filled === 0) return;
    this.#file ??= await open(this.path, "wx", 0o600);
    const part = this.#segment.subarray(0, this.#filled);
    const before = this.#writing; // of the other segment, which is filled next
    this.#writing = Promise.all([before, writeFully(this.#file, part, this.#sums.length * this.#segment.length)]);
    this.#writing.catch(() => {}); // thrown where it is waited for
    this.#sums.push(sumOf(part));
    this.#filled = 0;
    await before;
    if (this.#sums.length % segmentsAPush === 0) this.#push(this.#file);
  }

  #push(file: FileHandle): void {
    this.#pushing = Promise.all([this.#pushing, file.datasync()]);
    this.#pushing.catch(() => {});
  }

  async #settled(): Promise<void> {
    await Promise.all([this.#writing, this.#pushing]);
  }
}

/** Reads pages of a data file; every byte it gives was compared with its sum. */
export class DataReader implements AsyncDisposable {
  readonly #buffer = new Uint8Array(segmentPages * pageBytes);
  #held: { at: number; bytes: Uint8Array } | undefined;

  private constructor(
    readonly path: string,
    readonly file: FileHandle,
    readonly pages: number,
    readonly sums: Uint8Array,
  ) {}

  /** Opens a data file. Throws `internal_error` naming one that is cut or whose sums are wrong. */
  static async open(path: string): Promise<DataReader> {
    const file = await open(path, "r").catch(() => {
      throw damaged(path, "it is missing");
    });
    try {
      const { size } = await file.stat();
      const trailer = new Uint8Array(trailerBytes);
      if (size < trailerBytes) throw damaged(path, "it is cut short");
      await readFully(file, trailer, size - trailerBytes);
      const head = trailer.subarray(0, headBytes);
      if (new TextDecoder().decode(head.subarray(0, 8)) !== magic) throw damaged(path, "its end is missing");
      const pages = new DataView(head.buffer).getUint32(8, true);
      const sums = new Uint8Array(Math.ceil(pages / segmentPages) * sumBytes);
      if (pages * pageBytes + sums.length + trailerBytes !== size) throw damaged(path, "its length is wrong");
      await readFully(file, sums, pages * pageBytes);
      if (Buffer.compare(sumOf(Buffer.concat([sums, head])), trailer.subarray(headBytes)) !== 0)
        throw damaged(path, "its checksum differs");
      return new DataReader(path, file, pages, sums);
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
  }

  /** The pages from `first` on that lie in one segment, at most `pages`; valid until the next call. */
  async read(first: number, pages: number): Promise<Uint8Array> {
    const segment = Math.floor(first / segmentPages);
    const bytes = await this.#segment(segment);
    const at = (first - segment * segmentPages) * pageBytes;
    const part = bytes.subarray(at, at + pages * pageBytes);
    if (part.length === 0) throw damaged(this.path, "it has too few pages");
    return part;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
  }

  async #segment(at: number): Promise<Uint8Array> {
    if (this.#held?.at === at) return this.#held.bytes;
    const pages = Math.min(segmentPages, this.pages - at * segmentPages);
    if (pages <= 0) throw damaged(this.path, "it has too few pages");
    this.#held = undefined;
    const bytes = this.#buffer.subarray(0, pages * pageBytes);
    await readFully(this.file, bytes, at * segmentPages * pageBytes);
    const sum = this.sums.subarray(at * sumBytes, (at + 1) * sumBytes);
    if (Buffer.compare(sumOf(bytes), sum) !== 0) throw damaged(this.path, "its checksum differs");
    this.#held = { at, bytes };
    return bytes;
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
}

async function readFully(file: FileHandle, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) throw new WrennError("internal_error", "a snapshot file shrank while it was read");
    done += bytesRead;
  }
}
