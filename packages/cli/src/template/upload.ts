import type { Wrenn } from "wrenn";
import { bytes, Failure, paint } from "../output.ts";
import type { Context } from "./context.ts";
import { StatusLine } from "./status-line.ts";

/** What a shell expects of a program that Ctrl-C ended. */
export const interrupted = 130;

/** Between two words about what is being sent. */
const tellMs = 200;
/** A folder that packs to more than this holds something that was not meant to be in it, more often than not. */
const largeBytes = 100 * 2 ** 20;

/** Does what is given up by Ctrl-C and leaves nothing then, neither files here nor a build there. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const end = () => stop.abort(new Failure("interrupted; nothing was built", undefined, interrupted));
  process.once("SIGINT", end);
  try {
    return await work(stop.signal);
  } catch (thrown) {
    throw stop.signal.aborted ? stop.signal.reason : thrown;
  } finally {
    process.removeListener("SIGINT", end);
  }
}

/** Sends an archive unless the server has it, and says so; on a terminal also how far it is. */
export async function upload(client: Wrenn, archive: Context, signal: AbortSignal): Promise<void> {
  using status = new StatusLine(process.stderr);
  const size = bytes(archive.sizeBytes);
  const body = () => {
    const file = Bun.file(archive.path);
    return process.stderr.isTTY
      ? counted(file.stream(), (done) => status.tell(`sending ${bytes(done)} of ${size}`))
      : file;
  };
  const { sent } = await client.builds.upload(archive.sha256, body, { signal, requestTimeoutMs: 0 });
  const what = archive.files === undefined ? size : `${archive.files} files, ${size}`;
  status.above(paint("dim", `${sent ? "sent" : "unchanged"}: ${what}`, process.stderr));
  if (!sent || archive.files === undefined || archive.sizeBytes < largeBytes) return;
  const hint = `the folder packs to ${size}; .dockerignore leaves out what the build does not need`;
  status.above(`${paint("yellow", "warning:", process.stderr)} ${hint}`);
}

function counted(from: ReadableStream<Uint8Array>, tell: (done: number) => void): ReadableStream<Uint8Array> {
  let done = 0;
  let toldAt = 0;
  const count = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      done += chunk.length;
      controller.enqueue(chunk);
      if (performance.now() - toldAt < tellMs) return;
      toldAt = performance.now();
      tell(done);
    },
  });
  return from.pipeThrough(count);
}
