import { type Stats, statSync } from "node:fs";
import { basename } from "node:path";
import { WrennError } from "@wrenn/contract/core";
import { httpError } from "../http.ts";
import { chooseEncoding, fastest, isWorthCompressing, refusesIdentity } from "./encoding.ts";
import { fileError } from "./errors.ts";
import { parseRange } from "./range.ts";

/** Answers `GET /files` for the absolute `path`: whole, a byte range, or gzip, and never held in memory. */
export async function download(request: Request, path: string): Promise<Response> {
  const stat = statOf(path);
  const accepted = request.headers.get("accept-encoding");
  const encoding = chooseEncoding(accepted, request.headers.has("range"));
  if (!encoding) return httpError(406, "no acceptable encoding found: identity and gzip are offered");
  const file = Bun.file(path);
  const headers = new Headers({
    "Content-Type": file.type,
    "Content-Disposition": disposition(basename(path)),
    "Last-Modified": stat.mtime.toUTCString(),
    Vary: "Accept-Encoding",
  });
  if (stat.size === 0) return sizeless(path, headers);
  if (encoding === "gzip" && (refusesIdentity(accepted) || (await isWorthCompressing(file, stat.size)))) {
    headers.set("Content-Encoding", "gzip");
    return new Response(await compressed(path), { headers });
  }
  headers.set("Accept-Ranges", "bytes");
  const range = parseRange(request.headers.get("range"), stat.size);
  if (range === "unsatisfiable") {
    headers.set("Content-Range", `bytes */${stat.size}`);
    return new Response(null, { status: 416, headers });
  }
  if (!range) return new Response(file, { headers });
  headers.set("Content-Range", `bytes ${range.start}-${range.end}/${stat.size}`);
  return new Response(file.slice(range.start, range.end + 1), { status: 206, headers });
}

async function compressed(path: string): Promise<ReadableStream> {
  const [{ createGzip }, { createReadStream }, { pipeline, Readable }] = await Promise.all([
    import("node:zlib"), // memory that few agents ever need
    import("node:fs"),
    import("node:stream"),
  ]);
  const packed = createGzip({ level: fastest });
  // both are closed when one of them ends, also because the client went away
  pipeline(createReadStream(path, { highWaterMark: 256 * 1024 }), packed, () => {});
  return Readable.toWeb(packed) as unknown as ReadableStream;
}

function statOf(path: string): Stats {
  let stat: Stats;
  try {
    stat = statSync(path);
  } catch (thrown) {
    throw fileError(thrown, path);
  }
  if (stat.isFile()) return stat;
  const what = stat.isDirectory() ? "is a directory" : "is not a regular file";
  throw new WrennError("invalid_request", `path '${path}' ${what}`, { remedy: "Name a file.", details: { path } });
}

/** Files without a size are empty, or made by the kernel as they are read, such as `/proc/meminfo`. */
async function sizeless(path: string, headers: Headers): Promise<Response> {
  const bytes = await Bun.file(path)
    .bytes()
    .catch((thrown) => {
      throw fileError(thrown, path);
    });
  headers.set("Content-Length", String(bytes.length));
  return new Response(bytes, { headers });
}

/** RFC 6266: a plain name for old clients, the exact one in UTF-8. */
function disposition(name: string): string {
  const plain = name.replace(/[^\x20-\x7e]|["\\%]/g, "_");
  const exact = encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return plain === name ? `inline; filename="${name}"` : `inline; filename="${plain}"; filename*=UTF-8''${exact}`;
}
