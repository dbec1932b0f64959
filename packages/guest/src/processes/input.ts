import { closeSync } from "node:fs";
import { WrennError } from "@wrenn/contract/core";
import { setNonBlocking } from "../native.ts";

/** Input that waits for a process that does not read; more than this is refused. */
const maxWaitingBytes = 8 * 1024 * 1024;

const closedError = (cause?: unknown) =>
  new WrennError("internal_error", "stdin of the process is closed", {
    remedy: "Start the process again to write.",
    cause,
  });

/** The writing end of a process's standard input. */
export class Input {
  #sink: Bun.FileSink | undefined;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  #closed = false;

  constructor(readonly fd: number) {}

  /** Resolves when the pipe took `bytes`; calls keep their order. Throws `internal_error` when it is closed. */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(closedError());
    if (this.#waiting + bytes.length > maxWaitingBytes && this.#waiting > 0)
      return Promise.reject(
        new WrennError("rate_limited", "the process does not read its input", {
          remedy: "Wait for earlier input to be taken.",
        }),
      );
    this.#waiting += bytes.length;
    const done = this.#last.then(() => this.#put(bytes)).finally(() => (this.#waiting -= bytes.length));
    this.#last = done.catch(() => {}); // each caller learns of its own failure
    return done;
  }

  /** Ends the input after everything that was written before. */
  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    const done = this.#last.then(() => this.#release());
    this.#last = done;
    return done;
  }

  /** The process left: nobody will read what still waits. */
  abandon(): void {
    if (this.#closed && this.#waiting === 0) return;
    this.#closed = true;
    void this.#release();
  }

  async #put(bytes: Uint8Array): Promise<void> {
    if (this.#released) throw closedError();
    try {
      this.#sink ??= this.#open();
      // Both promises fail when the reader is gone, and one that nobody holds would be an unhandled rejection.
      await Promise.all([this.#sink.write(bytes), this.#sink.flush()]);
    } catch (cause) {
      // A process may close its input at any time: that is its own affair, and no fault for the log.
      throw closedError((cause as NodeJS.ErrnoException).code === "EPIPE" ? undefined : cause);
    }
  }

  #open(): Bun.FileSink {
    setNonBlocking(this.fd);
    return Bun.file(this.fd).writer({ highWaterMark: 64 * 1024 });
  }

  #released = false;

  async #release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    try {
      await this.#sink?.end();
    } catch {
      // the reader is gone: there is nothing left to deliver
    }
    closeSync(this.fd);
  }
}
