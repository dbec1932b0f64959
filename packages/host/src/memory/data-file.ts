import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import { alignedBytes } from "./aligned.ts";
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

const segmentBytes = segmentPages * pageBytes;

/**
 * Writes a data file page by page; the file is made with the first page. While one segment is written, its sum is
 * computed and the next one is filled.
 *
 * Pages go to the disk past the system's cache where they can: the copy into it is most of what a pause costs otherwise,
 * and it would take the place of templates there, which all sandboxes share.
 */
export class DataWriter implements AsyncDisposable {
  readonly #segments = [alignedBytes(segmentBytes), alignedBytes(segmentBytes)] as const;
  readonly #sums: Uint8Array[] = [];
  #filled = 0;
  #file: FileHandle | undefined;
  /** The same file, past the cache, once there is a whole segment to write; `null` where that cannot be. */
  #direct: FileHandle | null | undefined;
  #writing: Promise<unknown> = Promise.resolve();
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
    await this.#writing;
    await writeFully(this.#file!, tail, this.pages * pageBytes);
    await this.#file!.datasync();
    return this.pages * pageBytes + tail.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => {}); // whoever waited for it was told
    await this.#direct?.close();
    await this.#file?.close();
  }

  /** The one that is being filled. */
  get #segment(): Uint8Array {
    return this.#segments[this.#sums.length % 2]!;
  }

  async #flush(): Promise<void> {
    if (this.#filled === 0) return;
    this.#file ??= await open(this.path, "wx", 0o600);
    // A file of less is written as fast through the cache.
    if (this.#direct === undefined && this.#filled === segmentBytes) this.#direct = await this.#openDirect();
    const part = this.#segment.subarray(0, this.#filled);
    const before = this.#writing; // of the other segment, which is filled next
    this.#writing = Promise.all([before, this.#write(part, this.#sums.length * segmentBytes)]);
    this.#writing.catch(() => {}); // thrown where it is waited for
    this.#sums.push(sumOf(part));
    this.#filled = 0;
    await before;
  }

  /** A file system in memory may have no way past the cache. */
  #openDirect(): Promise<FileHandle | null> {
    return open(this.path, constants.O_WRONLY | constants.O_DIRECT).catch(() => null);
  }

  async #write(part: Uint8Array, position: number): Promise<void> {
    try {
      if (this.#direct) return await writeFully(this.#direct, part, position);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "EINVAL") throw thrown; // else its blocks are larger than pages
    }
    await writeFully(this.#file!, part, position);
  }
}

/** A segment that is read, or will be. */
type Segment = { readonly at: number; readonly bytes: Promise<Uint8Array> };

/**
 * Reads pages of a data file; every byte it gives was compared with its sum. While one segment is used the next is read,
 * since it may come from the disk.
 */
export class DataReader implements AsyncDisposable {
  /** For segments of even and of odd places: one is used while the next is read. */
  readonly #buffers = [new Uint8Array(segmentBytes), new Uint8Array(segmentBytes)] as const;
  #held: { at: number; bytes: Uint8Array } | undefined;
  #next: Segment | undefined;

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
    await this.#next?.bytes.catch(() => {}); // nobody wants it any more
    await this.file.close();
  }

  async #segment(at: number): Promise<Uint8Array> {
    if (this.#held?.at === at) return this.#held.bytes;
    if (at * segmentPages >= this.pages) throw damaged(this.path, "it has too few pages");
    this.#held = undefined;
    const ahead = this.#next;
    if (ahead && ahead.at !== at) await ahead.bytes.catch(() => {}); // its buffer is used again
    const bytes = await (ahead?.at === at ? ahead : this.#read(at)).bytes;
    const isLast = (at + 1) * segmentPages >= this.pages;
    this.#next = isLast ? undefined : this.#read(at + 1);
    const sum = this.sums.subarray(at * sumBytes, (at + 1) * sumBytes);
    if (Buffer.compare(sumOf(bytes), sum) !== 0) throw damaged(this.path, "its checksum differs");
    this.#held = { at, bytes };
    return bytes;
  }

  #read(at: number): Segment {
    const part = this.#buffers[at % 2 === 0 ? 0 : 1].subarray(
      0,
      Math.min(segmentPages, this.pages - at * segmentPages) * pageBytes,
    );
    const bytes = readFully(this.file, part, at * segmentBytes).then(() => part);
    bytes.catch(() => {}); // thrown where it is waited for
    return { at, bytes };
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
