import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";

/** A guest that floods its console fills this much; then the file is emptied, at each look anew. */
const mostBytes = 256 * 1024;

/** Follows the file into which a VMM writes its guest's console. */
export class ConsoleReader {
  #offset = 0;
  #rest = "";

  constructor(readonly path: string) {}

  /** Whole lines since the last look. The file belongs to the VMM's user: it may be gone, or no plain file any more. */
  lines(): string[] {
    let fd: number;
    try {
      // A VMM that a guest took over could put a link to a file of this machine there.
      fd = openSync(this.path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch {
      return [];
    }
    try {
      const { size, nlink } = fstatSync(fd);
      if (!fstatSync(fd).isFile() || nlink !== 1 || size <= this.#offset) return [];
      const from = Math.max(this.#offset, size - mostBytes);
      const bytes = new Uint8Array(size - from);
      const read = readSync(fd, bytes, 0, bytes.length, from);
      this.#offset = from + read;
      if (this.#offset > mostBytes) {
        ftruncateSync(fd, 0);
        this.#offset = 0;
      }
      return this.#cut(new TextDecoder().decode(bytes.subarray(0, read)));
    } finally {
      closeSync(fd);
    }
  }

  #cut(text: string): string[] {
    const lines = (this.#rest + text).split(/\r?\n/);
    this.#rest = lines.pop()!.slice(0, mostBytes);
    return lines.map(plain).filter((line) => line !== "");
  }
}

/** Without terminal sequences and control characters, which would act on a reader's terminal. */
const plain = (line: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  line.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]/g, "").trimEnd();
