import { mkdir, rename, rm } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import type { Importer } from "./importer.ts";

/** Where archives of images are sent: `PUT /images/archives/{sha256}`. */
export const archivePath = "/images/archives/";

/** Takes an archive; it is there whole, and what its name says, or not at all. */
export async function takeArchive(request: Request, importer: Importer): Promise<Response> {
  const sha256 = new URL(request.url).pathname.slice(archivePath.length);
  if (request.method !== "PUT" || !/^[0-9a-f]{64}$/.test(sha256))
    throw new WrennError("invalid_request", "archives are sent with PUT under their SHA-256");
  const path = importer.archive(sha256);
  if (await Bun.file(path).exists()) return new Response(null, { status: 204 });
  await mkdir(importer.archives, { recursive: true, mode: 0o700 });
  const partial = `${path}.${crypto.randomUUID()}`;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(partial, { force: true }));
  const hash = new Bun.CryptoHasher("sha256");
  const sink = Bun.file(partial).writer();
  for await (const chunk of request.body ?? []) {
    hash.update(chunk);
    sink.write(chunk);
    await sink.flush();
  }
  await sink.end();
  if (hash.digest("hex") !== sha256)
    throw new WrennError("invalid_request", "the archive is not what its SHA-256 says", { remedy: "Send it again." });
  await rename(partial, path);
  return new Response(null, { status: 204 });
}
