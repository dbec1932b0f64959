/** Files of the machine this program runs on: the only part of the SDK that needs `node:` modules, loaded on use. */

/** Opens a local file as a stream and hands it on. */
export async function uploadFrom<T>(
  path: string,
  send: (stream: ReadableStream<Uint8Array>) => Promise<T>,
): Promise<T> {
  const { open } = await import("node:fs/promises");
  const file = await open(path, "r");
  try {
    return await send(chunksOf(file));
  } finally {
    await file.close();
  }
}

/** Writes a stream to a local file, beside it first, so that a broken transfer leaves the old file whole. */
export async function downloadTo(path: string, stream: ReadableStream<Uint8Array>): Promise<void> {
  const { open, rename, rm } = await import("node:fs/promises");
  const partial = `${path}.${crypto.randomUUID().slice(0, 8)}.part`;
  try {
    const file = await open(partial, "wx");
    try {
      for await (const chunk of iterate(stream)) await file.writeFile(chunk);
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (thrown) {
    await rm(partial, { force: true });
    throw thrown;
  }
}

type Readable = { read(into: Uint8Array): Promise<{ bytesRead: number }> };

/** Large enough that a chunk's cost is copying, small enough that memory stays flat. */
const chunkBytes = 256 * 1024;

function chunksOf(file: Readable): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      const chunk = new Uint8Array(chunkBytes);
      const { bytesRead } = await file.read(chunk);
      if (bytesRead === 0) controller.close();
      else controller.enqueue(chunk.subarray(0, bytesRead));
    },
  });
}

/** Browsers' streams are not async iterables everywhere. */
async function* iterate(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
