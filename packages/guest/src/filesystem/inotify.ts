import { dlopen, FFIType, ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { check, pendingBytes } from "../native.ts";

const { i32, ptr: pointer, u32 } = FFIType;

const open = () =>
  dlopen("libc.so.6", {
    inotify_init1: { args: [i32], returns: i32 },
    inotify_add_watch: { args: [i32, pointer, u32], returns: i32 },
    inotify_rm_watch: { args: [i32, i32], returns: i32 },
  }).symbols;

let opened: ReturnType<typeof open> | undefined;
const calls = () => {
  opened ??= open();
  return opened;
};

/** Event bits of inotify(7). */
export const bit = {
  modify: 0x2,
  attrib: 0x4,
  movedFrom: 0x40,
  movedTo: 0x80,
  create: 0x100,
  remove: 0x200,
  removeSelf: 0x400,
  moveSelf: 0x800,
  overflow: 0x4000,
  ignored: 0x8000,
  isDir: 0x4000_0000,
} as const;

const watched =
  bit.modify | bit.attrib | bit.movedFrom | bit.movedTo | bit.create | bit.remove | bit.removeSelf | bit.moveSelf;
const onlyDir = 0x0100_0000;
const noLink = 0x0200_0000;
const initFlags = 0o4000 | 0o2000000; // non-blocking, close on exec
const headerBytes = 16;

/** One event: `name` is empty when it is about the watched directory itself. */
export type InotifyEvent = {
  watch: number;
  mask: number;
  name: string /** Joins the two halves of a rename. */;
  cookie: number;
};

/** One inotify instance. */
export class Inotify {
  readonly #fd = check("inotify_init1", calls().inotify_init1(initFlags));
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #closed = false;

  /** Watches the directory `path`; the number comes back in its events. Throws a `SystemError`. */
  add(path: string, follow: boolean): number {
    const mask = watched | onlyDir | (follow ? 0 : noLink);
    return check("inotify_add_watch", calls().inotify_add_watch(this.#fd, ptr(Buffer.from(`${path}\0`)), mask));
  }

  /** Stops watching; a watch that is already gone is no error. */
  remove(watch: number): void {
    calls().inotify_rm_watch(this.#fd, watch);
  }

  /** Batches of events, until `close`. Nothing is read while the consumer is busy with a batch. */
  async *batches(): AsyncGenerator<InotifyEvent[]> {
    this.#reader = Bun.file(this.#fd).stream().getReader();
    while (!this.#closed) {
      const { done, value } = await this.#reader.read();
      if (done || this.#closed) return;
      yield parse(value);
    }
  }

  /** Whether the kernel holds events that no batch has had yet. */
  get hasUnread(): boolean {
    return pendingBytes(this.#fd) > 0;
  }

  /** Releases the instance and all its watches. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    void this.#reader?.cancel().catch(() => {});
    closeSync(this.#fd);
  }
}

/** Cuts what the kernel wrote into events; it never splits one. */
function parse(bytes: Uint8Array): InotifyEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const events: InotifyEvent[] = [];
  for (let at = 0; at + headerBytes <= bytes.length; ) {
    const length = view.getUint32(at + 12, true);
    const padded = bytes.subarray(at + headerBytes, at + headerBytes + length);
    const end = padded.indexOf(0);
    const name = Buffer.from(end < 0 ? padded : padded.subarray(0, end)).toString();
    const [watch, mask, cookie] = [view.getInt32(at, true), view.getUint32(at + 4, true), view.getUint32(at + 8, true)];
    events.push({ watch, mask, cookie, name });
    at += headerBytes + length;
  }
  return events;
}
