import { closeSync, openSync, readSync, unlinkSync } from "node:fs";

/** Bytes a page: what processors of x86-64 and arm64 guests map, and the unit in which memory is saved. */
export const pageBytes = 4096;

/** Whole pages of a guest's memory, from page number `page` on. */
export type Pages = { readonly page: number; readonly bytes: Uint8Array };

const zeros = new Uint8Array(1 << 20);

/** `count` pages of zeros; not to be written to. At most a MiB. */
export const zeroPages = (count: number): Uint8Array => zeros.subarray(0, count * pageBytes);

/** Whether two pieces of memory hold the same. */
export const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

const wordsAPage = pageBytes / 4;

/**
 * Pages to be compared one by one. The first and last words tell most pages apart, without a call into native code and
 * the objects that it takes. The bytes begin at a multiple of four of their buffer.
 */
export class PageView {
  readonly #words: Uint32Array;

  constructor(readonly bytes: Uint8Array) {
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  }

  /** Whether page `at` holds the same in `other`. */
  isSame(other: PageView, at: number): boolean {
    const [first, last] = [at * wordsAPage, (at + 1) * wordsAPage - 1];
    if (this.#words[first] !== other.#words[first] || this.#words[last] !== other.#words[last]) return false;
    return same(pageOf(this.bytes, at), pageOf(other.bytes, at));
  }

  /** Whether page `at` holds nothing but zeros. */
  isZero(at: number): boolean {
    if (this.#words[at * wordsAPage] !== 0 || this.#words[(at + 1) * wordsAPage - 1] !== 0) return false;
    return same(pageOf(this.bytes, at), zeroPages(1));
  }
}

const pageOf = (bytes: Uint8Array, at: number): Uint8Array => bytes.subarray(at * pageBytes, (at + 1) * pageBytes);

/** The memory of a template: what a page holds that no generation names. */
export class TemplateMemory implements Disposable {
  readonly #fd: number;
  readonly #page = new Uint8Array(pageBytes);

  constructor(path: string) {
    this.#fd = openSync(path, "r");
  }

  /** Whether a page holds nothing but zeros. */
  isZero(page: number): boolean {
    readSync(this.#fd, this.#page, 0, pageBytes, page * pageBytes);
    return new PageView(this.#page).isZero(0);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** Every page of a memory file, which is removed when all were taken. Each piece is valid until the next. */
export function* pagesOf(path: string): Generator<Pages> {
  const fd = openSync(path, "r");
  try {
    const buffer = new Uint8Array(1 << 20);
    for (let at = 0, got = 0; ; at += got) {
      got = readSync(fd, buffer, 0, buffer.length, at);
      if (got === 0) break;
      yield { page: at / pageBytes, bytes: buffer.subarray(0, got) };
    }
  } finally {
    closeSync(fd);
  }
  unlinkSync(path);
}
