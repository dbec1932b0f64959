import { deadlineError } from "../connect/deadline.ts";
import type { FrameSource } from "../connect/method.ts";
import { discard } from "../garbage.ts";
import type { FrameEncoder } from "./frames.ts";
import type { Cursor } from "./output.ts";
import type { GuestProcess } from "./process.ts";

/** The events of one process for one reader: `start`, output, `end`. */
export class ProcessStream implements FrameSource {
  onReady: () => void = () => {};
  ended = false;
  #started = false;
  readonly #cursor: Cursor;
  readonly #onEnd = () => this.onReady();

  constructor(
    readonly process: GuestProcess,
    readonly encoder: FrameEncoder,
    /** True for the caller that set the process's deadline: it is told of that instead of the end. */
    readonly setDeadline: boolean,
  ) {
    this.#cursor = process.output.attach(() => this.onReady());
    process.onEnd.add(this.#onEnd);
  }

  take(): Uint8Array<ArrayBuffer> | undefined {
    if (!this.#started) {
      this.#started = true;
      return this.encoder.start(this.process.pid);
    }
    const piece = this.process.output.read(this.#cursor);
    if (piece) {
      discard(2 * piece.bytes.length); // what was read from the pipe, and the frame
      return this.encoder.data(piece.channel, piece.bytes);
    }
    if (!this.process.end || this.ended) return undefined;
    this.ended = true;
    return this.failure ? undefined : this.encoder.end(this.process.end);
  }

  keepalive(): Uint8Array<ArrayBuffer> {
    return this.encoder.keepalive();
  }

  get failure(): unknown {
    return this.setDeadline && this.process.expired ? deadlineError() : undefined;
  }

  close(): void {
    this.process.output.detach(this.#cursor);
    this.process.onEnd.delete(this.#onEnd);
  }
}
