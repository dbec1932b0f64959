import type { Channel } from "./frames.ts";

/** What is kept of output that nobody has read, bytes. The oldest goes first. */
export const unreadBytes = 1024 * 1024;

/** What is kept of output that every attached reader has, for whoever attaches next: enough to redraw a terminal. */
const scrollbackBytes = 64 * 1024;

/**
 * A reader that is this far behind stops the reading of the process's pipes, so that the process waits for it as it
 * would for a slow terminal. Two pipes may each deliver one more piece of 256 KiB: together less than
 * {@link unreadBytes}, so what an attached reader has not taken is never dropped.
 */
const highWaterBytes = 256 * 1024;

/** Memory comes in blocks of this size after a small first one: most commands say little. */
const blockBytes = 64 * 1024;
const firstBlockBytes = 1024;

const channels: readonly Channel[] = ["stdout", "stderr", "pty"];

/** Bytes of all channels in the order of their arrival; `runs` says whose they are, as `end offset * 4 + channel`. */
type Block = { bytes: Buffer; used: number; runs: number[]; next: Block | undefined };

/** A place in the output; `position` counts all bytes since the process started. */
export class Cursor {
  block: Block | undefined;
  run = 0;
  offset = 0;
  position = 0;
  constructor(readonly onData: () => void) {}
}

/** The output of one process, in the order in which it was read, with any number of readers. */
export class Output {
  #first: Block | undefined;
  #last: Block | undefined;
  #spare: Block | undefined;
  /** Bytes before the first kept one, and bytes in all. */
  #dropped = 0;
  #total = 0;
  readonly #cursors = new Set<Cursor>();
  #waiting: (() => void)[] = [];

  /** A reader from the oldest kept byte on; `onData` is called after every append. */
  attach(onData: () => void): Cursor {
    const cursor = new Cursor(onData);
    cursor.position = this.#dropped;
    this.#cursors.add(cursor);
    return cursor;
  }

  /** Ends a reader; what it held back goes on. */
  detach(cursor: Cursor): void {
    this.#cursors.delete(cursor);
    this.#resume();
  }

  /** Appends a copy of `bytes`. A promise comes back when a reader is far behind: append no more until it resolves. */
  append(channel: Channel, bytes: Uint8Array): Promise<void> | undefined {
    for (let at = 0; at < bytes.length; ) at += this.#appendPart(channels.indexOf(channel), bytes.subarray(at));
    this.#total += bytes.length;
    this.#trim();
    for (const cursor of this.#cursors) cursor.onData();
    return this.isBehind ? new Promise((resolve) => this.#waiting.push(resolve)) : undefined;
  }

  /** Whether a reader is so far behind that nothing should be appended. */
  get isBehind(): boolean {
    return this.#total - this.#leastPosition() > highWaterBytes;
  }

  /** The next piece for `cursor`, or `undefined` when it has everything. Its bytes are valid until the next append. */
  read(cursor: Cursor): { channel: Channel; bytes: Buffer } | undefined {
    cursor.block ??= this.#first;
    for (let block = cursor.block; block; block = cursor.block) {
      const run = block.runs[cursor.run];
      if (run !== undefined && cursor.offset < run >>> 2) {
        const bytes = block.bytes.subarray(cursor.offset, run >>> 2);
        cursor.offset += bytes.length;
        cursor.position += bytes.length;
        this.#resume();
        return { channel: channels[run & 3]!, bytes };
      }
      if (cursor.run + 1 < block.runs.length) cursor.run++;
      else if (block.next) moveTo(cursor, block.next);
      else return undefined;
    }
    return undefined;
  }

  /** Whether someone is attached and has everything that was appended. */
  get isRead(): boolean {
    return this.#cursors.size > 0 && this.#leastPosition() === this.#total;
  }

  /** How many bytes are kept. */
  get kept(): number {
    return this.#total - this.#dropped;
  }

  /** Forgets what is kept. */
  clear(): void {
    this.#first = undefined;
    this.#last = undefined;
    this.#spare = undefined;
    this.#dropped = this.#total;
  }

  #appendPart(channel: number, bytes: Uint8Array): number {
    const block = this.#roomy(bytes.length);
    const taken = Math.min(bytes.length, block.bytes.length - block.used);
    block.bytes.set(taken === bytes.length ? bytes : bytes.subarray(0, taken), block.used);
    block.used += taken;
    const run = block.used * 4 + channel;
    const last = block.runs.length - 1;
    if (last >= 0 && (block.runs[last]! & 3) === channel) block.runs[last] = run;
    else block.runs.push(run);
    return taken;
  }

  /** The last block, or a new one when that is full. */
  #roomy(length: number): Block {
    const last = this.#last;
    if (last && last.used < last.bytes.length) return last;
    const block = last || length > firstBlockBytes ? this.#fullBlock() : emptyBlock(firstBlockBytes);
    if (last) last.next = block;
    else this.#first = block;
    this.#last = block;
    return block;
  }

  #fullBlock(): Block {
    const block = this.#spare ?? emptyBlock(blockBytes);
    this.#spare = undefined;
    return block;
  }

  /** Drops the oldest blocks that are over the limits and keeps one of them to be filled again. */
  #trim(): void {
    for (let first = this.#first; first && first !== this.#last; first = this.#first) {
      const after = this.#dropped + first.used;
      const rest = this.#total - after;
      const everyoneHasIt = this.#cursors.size > 0 && this.#leastPosition() >= after;
      if (rest < (everyoneHasIt ? scrollbackBytes : unreadBytes)) return;
      this.#dropped = after;
      this.#first = first.next;
      for (const cursor of this.#cursors)
        if (cursor.position <= after) {
          cursor.position = after;
          if (first.next) moveTo(cursor, first.next);
        }
      if (first.bytes.length === blockBytes) this.#spare = Object.assign(first, { used: 0, runs: [], next: undefined });
    }
  }

  #leastPosition(): number {
    let least = this.#total;
    for (const cursor of this.#cursors) if (cursor.position < least) least = cursor.position;
    return least;
  }

  #resume(): void {
    if (this.#waiting.length === 0 || this.isBehind) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }
}

const emptyBlock = (size: number): Block => ({
  bytes: Buffer.allocUnsafeSlow(size),
  used: 0,
  runs: [],
  next: undefined,
});

function moveTo(cursor: Cursor, block: Block): void {
  cursor.block = block;
  cursor.run = 0;
  cursor.offset = 0;
}
