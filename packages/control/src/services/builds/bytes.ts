import type { Bytes } from "./copying.ts";

/** Bytes as a request's body. */
export function streamOf(source: Bytes): ReadableStream<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      try {
        const next = await iterator.next();
        if (next.done) controller.close();
        else controller.enqueue(new Uint8Array(next.value));
      } catch (thrown) {
        controller.error(thrown);
      }
    },
    cancel: () => void iterator.return?.(),
  });
}
