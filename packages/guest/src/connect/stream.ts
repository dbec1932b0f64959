import { contentType } from "./codec.ts";
import { deadlineError } from "./deadline.ts";
import { encodeEnvelope, flag } from "./envelope.ts";
import type { Call, FrameSource } from "./method.ts";

const cleanEnd = encodeEnvelope(flag.end, "{}");

/** The last envelope of a stream that ended well. */
export const endFrame = (): Uint8Array<ArrayBuffer> => cleanEnd;

/** The last envelope of a stream that failed. */
export async function failureFrame(thrown: unknown): Promise<Uint8Array<ArrayBuffer>> {
  const { errorBody } = await import("./errors.ts");
  return encodeEnvelope(flag.end, JSON.stringify({ error: errorBody(thrown).json }));
}

/**
 * The frames of `source` as a response body. A chunk is made when the connection can take it and never before, so a
 * slow reader holds back the source; a reader that goes away closes it.
 */
export function streamResponse(source: FrameSource, call: Call): Response {
  const body = new FrameBody(source, call);
  const stream = new ReadableStream<Uint8Array>(
    { pull: (controller) => body.pull(controller), cancel: () => body.close() },
    { highWaterMark: 0 },
  );
  return new Response(stream, { headers: { "Content-Type": contentType({ json: call.json, stream: true }) } });
}

class FrameBody {
  #keepalive: Timer | undefined;
  #deadline: Timer | undefined;
  #lastFrameAt = performance.now();
  #wake: () => void = () => {};
  #keepaliveDue = false;
  #expired = false;
  #closed = false;

  constructor(
    readonly source: FrameSource,
    readonly call: Call,
  ) {
    source.onReady = () => this.#wake();
    this.#armKeepalive(call.keepaliveMs);
    if (call.timeoutMs !== undefined) this.#deadline = setTimeout(() => this.#expire(), call.timeoutMs);
  }

  async pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    while (!this.#closed) {
      const frame = this.source.take();
      if (frame) {
        this.#lastFrameAt = performance.now();
        if (!this.source.ended) return controller.enqueue(frame);
        controller.enqueue(frame);
        continue;
      }
      if (this.#expired || this.source.ended) return this.#finish(controller);
      if (this.#keepaliveDue) {
        this.#keepaliveDue = false;
        return controller.enqueue(this.source.keepalive());
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#keepalive);
    clearTimeout(this.#deadline);
    this.source.close();
    this.#wake();
  }

  async #finish(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    const failure = this.#expired ? deadlineError() : this.source.failure;
    controller.enqueue(failure === undefined ? endFrame() : await failureFrame(failure));
    this.close();
    controller.close();
  }

  #expire(): void {
    this.#expired = true;
    this.#wake();
  }

  /** One timer a stream, re-armed only when it fires: data merely moves the time it compares with. */
  #armKeepalive(delayMs: number): void {
    this.#keepalive = setTimeout(() => {
      const silentMs = performance.now() - this.#lastFrameAt;
      if (silentMs >= this.call.keepaliveMs - 1) {
        this.#keepaliveDue = true;
        this.#lastFrameAt = performance.now();
        this.#wake();
        this.#armKeepalive(this.call.keepaliveMs);
      } else this.#armKeepalive(this.call.keepaliveMs - silentMs);
    }, delayMs);
  }
}
