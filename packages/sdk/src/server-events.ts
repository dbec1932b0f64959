import { WrennError } from "@wrenn/contract";
import type { Api } from "./api.ts";
import { errorOf } from "./errors.ts";

/** Pause before a connection that was lost is opened again. */
const retryMs = 1_000;

/**
 * The parts of a stream of server-sent events between empty lines (HTML Living Standard, 9.2).
 * @internal
 */
export async function* blocks(
  body: ReadableStream<Uint8Array>,
  onBytes: () => void = () => {},
): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onBytes();
      text += decoder.decode(value, { stream: true });
      const parts = text.split("\n\n");
      text = parts.pop()!;
      yield* parts;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** How something is followed. */
export type FollowOptions = {
  /** Ends the stream; the generator then returns. */
  signal?: AbortSignal | undefined;
  /** Called when the connection is lost or could not be made, before a new one is tried. */
  onLost?: ((why: unknown) => unknown) | undefined;
};

/**
 * The blocks of a path's events, over a connection that is opened again when it is lost, until `signal` aborts. Throws
 * what the server refuses.
 * @internal
 */
export async function* connected(client: Api, path: string, { signal, onLost }: FollowOptions): AsyncGenerator<string> {
  while (!signal?.aborted) {
    try {
      const response = await client.send(path, { headers: { Accept: "text/event-stream" }, ...(signal && { signal }) });
      if (!response.ok || !response.body) throw await errorOf(response);
      yield* blocks(response.body);
    } catch (thrown) {
      if (signal?.aborted) return;
      if (thrown instanceof WrennError && thrown.status < 500) throw thrown;
      onLost?.(thrown);
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

/**
 * What a block carries; `undefined` for one that only keeps the connection alive.
 * @internal
 */
export function dataOf<T>(block: string): T | undefined {
  const text = /^data: ?(.*)$/m.exec(block)?.[1];
  return text === undefined ? undefined : (JSON.parse(text) as T);
}
