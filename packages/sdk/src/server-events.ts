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
