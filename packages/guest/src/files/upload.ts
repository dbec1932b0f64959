import { basename, normalize } from "node:path";
import { WrennError } from "@wrenn/contract/core";
import { resolvePath, type User } from "../users.ts";
import { fileError } from "./errors.ts";
import { metadataOf } from "./metadata.ts";
import { boundaryOf, MultipartReader, type Part } from "./multipart.ts";
import { FileWriter } from "./writer.ts";
import { writeMetadata } from "./xattr.ts";

/** One written file, as `POST /files` answers it; the key `metadata` is absent when there is none. */
export type Written = { path: string; name: string; type: "file"; metadata?: Record<string, string> };

/** Where and for whom an upload is written. */
export type UploadTarget = { path: string; user: User; defaultWorkdir: string };

type ByteReader = { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> };

/** Writes what `POST /files` carries, as it arrives. Throws WrennErrors; a file that is not complete never appears. */
export async function upload(request: Request, target: UploadTarget): Promise<Written[]> {
  const metadata = metadataOf(request.headers);
  const type = request.headers.get("content-type") ?? "";
  const body = bodyOf(request);
  if (/^application\/octet-stream\b/i.test(type)) {
    if (!target.path)
      throw new WrennError("invalid_request", "the query names no path", { remedy: "Add ?path=… to the URL." });
    return [await writeFile(body, resolve(target.path, target), { user: target.user, metadata })];
  }
  if (/^multipart\/form-data\b/i.test(type))
    return uploadForm(new MultipartReader(body, boundaryOf(type)), target, metadata);
  throw new WrennError("invalid_request", `the content type '${type}' is not supported`, {
    remedy: "Send multipart/form-data or application/octet-stream.",
  });
}

const resolve = (path: string, { user, defaultWorkdir }: UploadTarget) => resolvePath(path, user, defaultWorkdir);

async function uploadForm(
  form: MultipartReader,
  target: UploadTarget,
  metadata: Record<string, string>,
): Promise<Written[]> {
  const written: Written[] = [];
  for (let part = await form.next(); part; part = await form.next()) {
    if (part.name !== "file") continue;
    const path = resolve(partPath(part, target), target);
    if (written.some((file) => file.path === path))
      throw new WrennError("invalid_request", `the form holds '${path}' more than once`, {
        remedy: "Leave ?path=… out and give every part its own file name.",
      });
    written.push(await writeFile(pieces(part), path, { user: target.user, metadata }));
  }
  if (written.length > 0) return written;
  throw new WrennError("invalid_request", "the form holds no part named 'file'", { remedy: "Add one for each file." });
}

function partPath(part: Part, target: UploadTarget): string {
  const path = target.path || part.filename;
  if (path) return normalize(path);
  throw new WrennError("invalid_request", "a part has no file name, and the query names no path", {
    remedy: "Add ?path=… to the URL, or a file name to the part.",
  });
}

const pieces = (part: Part): ByteReader => ({
  async read() {
    const value = await part.read();
    return { done: value === undefined, value };
  },
});

async function writeFile(
  body: ByteReader,
  path: string,
  { user, metadata }: { user: User; metadata: Record<string, string> },
): Promise<Written> {
  const writer = new FileWriter(path, user);
  try {
    for (let piece = await body.read(); !piece.done; piece = await body.read()) writer.write(piece.value!);
    writeMetadata(writer.fd, metadata);
    writer.commit();
  } catch (thrown) {
    writer.abort();
    throw fileError(thrown, path);
  }
  return { path, name: basename(path), type: "file", ...(Object.keys(metadata).length > 0 ? { metadata } : {}) };
}

const empty: ByteReader = { read: async () => ({ done: true }) };

/** The request's bytes, unpacked. A client that goes away makes `read` reject. */
function bodyOf(request: Request): ByteReader {
  const encoding = request.headers.get("content-encoding")?.toLowerCase() ?? "identity";
  if (encoding !== "identity" && encoding !== "gzip")
    throw new WrennError("invalid_request", `the content encoding '${encoding}' is not supported`, {
      remedy: "Send gzip or no encoding.",
    });
  if (!request.body) return empty;
  if (encoding === "identity") return failingWith(request.body.getReader() as ByteReader, goneAway);
  const unpacked = request.body.pipeThrough(new DecompressionStream("gzip")).getReader();
  return failingWith(unpacked, notGzip);
}

const failingWith = (reader: ByteReader, problem: (cause: unknown) => WrennError): ByteReader => ({
  read: () =>
    reader.read().catch((cause) => {
      throw problem(cause);
    }),
});

const goneAway = (cause: unknown) =>
  new WrennError("invalid_request", "the body ended before it was complete", { remedy: "Send it again.", cause });

const notGzip = (cause: unknown) =>
  new WrennError("invalid_request", "the body is not gzip", { remedy: "Send valid gzip, completely.", cause });
