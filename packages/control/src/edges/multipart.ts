import { PassThrough, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Busboy, type BusboyHeaders, type BusboyInstance } from "@fastify/busboy";
import { rest, WrennError } from "@wrenn/contract";

/** A path has at most this many bytes (rest.PathRequest). */
const maxFieldBytes = 4_096;
/** Boundaries, part headers and the path of a form around its file. */
const framingBytes = 64 * 1024;

/** A form with a `path` field and then a `file`, whose content is read as it arrives. */
export type Upload = { path: string; content: ReadableStream<Uint8Array> };

/** A whole form with `path` and `file` in any order. Throws `too_large` before anything of it is used. */
export async function readForm(request: Request): Promise<{ path: string; content: Uint8Array }> {
  needForm(request);
  const limit = rest.maxBufferedFileBytes + framingBytes;
  if (Number(request.headers.get("content-length")) > limit) throw tooLarge();
  const body = request.body!.pipeThrough(limited(limit));
  const form = await new Response(body, { headers: { "content-type": request.headers.get("content-type")! } })
    .formData()
    .catch((cause) => {
      throw cause instanceof WrennError ? cause : bad("The multipart body is malformed or incomplete.", cause);
    });
  const [path, file] = [form.get("path"), form.get("file")];
  if (typeof path !== "string" || path === "") throw bad("The form has no `path`.");
  if (file === null) throw bad("The form has no `file`.");
  const content = typeof file === "string" ? new TextEncoder().encode(file) : await (file as Blob).bytes();
  if (content.length > rest.maxBufferedFileBytes) throw tooLarge();
  return { path, content };
}

/**
 * The head of a form; its file streams after it. A form that breaks off is an error of the stream, so that whoever writes
 * it down knows that it is not whole. Throws `invalid_request` when `path` does not come before `file`.
 */
export function readUpload(request: Request): Promise<Upload> {
  needForm(request);
  const parser = openParser(request.headers.get("content-type")!);
  const body = Readable.fromWeb(request.body as unknown as Parameters<typeof Readable.fromWeb>[0]);
  const content = new PassThrough();
  content.on("error", () => {}); // whoever reads the content is told; before that nobody has to be
  const head = new Promise<Upload>((resolve, reject) => {
    let path: string | undefined;
    parser.on("field", (name, value) => {
      if (name === "path") path = value;
    });
    parser.on("file", (name, file) => {
      if (name !== "file") return void file.resume();
      if (!path) return reject(bad("The field `path` must come before `file`."));
      // The file's own end may be that of a broken form: only the form's end says that it is whole.
      file.pipe(content, { end: false });
      resolve({ path, content: Readable.toWeb(content) as unknown as ReadableStream<Uint8Array> });
    });
    pipeline(body, parser).then(
      () => {
        content.end();
        reject(bad("The form has no `file`."));
      },
      (cause) => {
        const error = bad("The multipart body is malformed or incomplete.", cause);
        content.destroy(error);
        reject(error);
      },
    );
  });
  return head.catch((thrown) => {
    body.destroy();
    throw thrown;
  });
}

function needForm(request: Request): void {
  const type = request.headers.get("content-type")?.toLowerCase();
  if (!type?.startsWith("multipart/form-data") || !request.body) throw bad("The body is not multipart/form-data.");
}

function openParser(type: string): BusboyInstance {
  try {
    const limits = { fieldSize: maxFieldBytes, fields: 16, files: 1 };
    return new Busboy({ headers: { "content-type": type } as BusboyHeaders, limits });
  } catch (cause) {
    throw bad("The multipart header has no boundary.", cause);
  }
}

function limited(most: number): TransformStream<Uint8Array, Uint8Array> {
  let size = 0;
  return new TransformStream({
    transform(chunk, controller) {
      size += chunk.length;
      if (size > most) controller.error(tooLarge());
      else controller.enqueue(chunk);
    },
  });
}

const tooLarge = () =>
  new WrennError("too_large", `A buffered upload has at most ${rest.maxBufferedFileBytes / 1024 / 1024} MiB.`, {
    remedy: "Use files/stream/write, which has no limit.",
  });

const bad = (message: string, cause?: unknown) =>
  new WrennError("invalid_request", message, {
    remedy: "Send multipart/form-data with the field `path` and then the field `file`.",
    cause,
  });
