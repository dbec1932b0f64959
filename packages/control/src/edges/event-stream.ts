/** Text as server-sent events, made only as fast as it is read; ends with the source, or when the client goes. */
export function eventStream(source: AsyncGenerator<string, void>): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value, done } = await source.next();
      if (done) return controller.close();
      controller.enqueue(encoder.encode(value));
    },
    cancel: async () => void (await source.return()),
  });
  // Proxies between would gather events otherwise.
  const kept = { "cache-control": "no-store", "x-accel-buffering": "no" };
  return new Response(body, { headers: { "content-type": "text/event-stream", ...kept } });
}

/** One event. */
export const eventFrame = (event: string, data: object): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

/** What proxies must see now and then, or they take the connection for dead. */
export const keepAlive = ": keep-alive\n\n";
