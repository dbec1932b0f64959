import { Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { WrennError } from "@wrenn/contract";
import { Unzip, UnzipInflate } from "fflate";
import { pack } from "tar-stream";
import type { Bytes } from "./copying.ts";

/** An uploaded archive as a plain tar, whatever it is: told by its first bytes (gzip, zstd, zip), else taken for a tar. */
export async function* asTar(archive: Bytes): Bytes & AsyncGenerator<Uint8Array> {
  const source = archive[Symbol.asyncIterator]();
  const first = await source.next();
  const head = first.done ? new Uint8Array() : first.value;
  const all = joined(head, source);
  if (startsWith(head, [0x1f, 0x8b])) yield* unpacked(all, createGunzip());
  else if (startsWith(head, [0x28, 0xb5, 0x2f, 0xfd])) yield* unpacked(all, createZstdDecompress());
  else if (startsWith(head, [0x50, 0x4b, 0x03, 0x04])) yield* zipAsTar(all);
  else yield* all;
}

const startsWith = (bytes: Uint8Array, magic: readonly number[]) => magic.every((byte, at) => bytes[at] === byte);

async function* joined(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (head.length > 0) yield head;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

async function* unpacked(packed: Bytes, through: NodeJS.ReadWriteStream): AsyncGenerator<Uint8Array> {
  const source = Readable.from(packed);
  source.on("error", (error) => (through as unknown as Readable).destroy(error));
  try {
    for await (const chunk of source.pipe(through) as AsyncIterable<Uint8Array>) yield chunk;
  } catch (cause) {
    if (cause instanceof WrennError) throw cause;
    throw new WrennError("invalid_request", "The archive is broken.", { remedy: "Upload it again.", cause });
  } finally {
    source.destroy();
  }
}

/** One file of a zip is held in memory at a time, up to this; such archives carry sources, not disks. */
const maxZippedFileBytes = 256 * 1024 ** 2;

/** The files of a zip, one after the other, as a tar. Zips say nothing of modes that every tool agrees on: files get 644. */
async function* zipAsTar(zip: Bytes): AsyncGenerator<Uint8Array> {
  const writer = pack();
  const work = (async () => {
    const files: { name: string; parts: Uint8Array[]; size: number; done: boolean }[] = [];
    const reader = new Unzip((file) => {
      const held = { name: file.name, parts: [] as Uint8Array[], size: 0, done: false };
      files.push(held);
      file.ondata = (error, data, final) => {
        if (error) throw error;
        held.size += data.length;
        if (held.size > maxZippedFileBytes) throw tooLarge(file.name);
        held.parts.push(data);
        held.done = final;
      };
      file.start();
    });
    reader.register(UnzipInflate);
    const flush = async () => {
      while (files[0]?.done) await add(writer, files.shift()!);
    };
    for await (const chunk of zip) {
      reader.push(chunk);
      await flush();
    }
    reader.push(new Uint8Array(), true);
    await flush();
    writer.finalize();
  })();
  work.catch((thrown) => writer.destroy(thrown));
  try {
    for await (const chunk of writer) yield chunk as Uint8Array;
  } catch (cause) {
    if (cause instanceof WrennError) throw cause;
    throw new WrennError("invalid_request", "The zip archive is broken.", { remedy: "Upload it again.", cause });
  }
}

function add(writer: ReturnType<typeof pack>, file: { name: string; parts: Uint8Array[] }): Promise<void> {
  const isFolder = file.name.endsWith("/");
  const header = {
    name: file.name,
    mode: isFolder ? 0o755 : 0o644,
    type: isFolder ? ("directory" as const) : ("file" as const),
  };
  return new Promise((done, failed) =>
    writer.entry(header, isFolder ? "" : Buffer.concat(file.parts), (error) => (error ? failed(error) : done())),
  );
}

const tooLarge = (name: string) =>
  new WrennError("too_large", `"${name}" in the zip archive is too large.`, { remedy: "Send a tar archive instead." });
