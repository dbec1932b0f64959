import { createHash } from "node:crypto";
import { readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { Descriptor } from "./registry.ts";

/** What an image is made of (OCI image, "Image manifest"). */
export type Manifest = { config: Descriptor; layers: readonly Descriptor[] };

type Named = Descriptor & { annotations?: Record<string, string> };
type Index = { manifests?: Named[] };

/** Folders of exports under way, beside the layout's own, begin so. */
export const exportPrefix = ".export-";

const refName = "org.opencontainers.image.ref.name";
const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** Path of a piece in the layout at `store` (OCI image, "Image layout"). */
export const blobPath = (store: string, { digest }: Pick<Descriptor, "digest">): string =>
  join(store, "blobs/sha256", digest.slice("sha256:".length));

/** Reads a manifest. Throws `invalid_request` for a document that is none. */
export function readManifest(text: string, mediaType = ""): Manifest {
  const { config, layers } = JSON.parse(text) as Partial<Manifest>;
  const pieces = [config, ...(layers ?? [])];
  const isGood = layers && pieces.every((one) => one && /^sha256:[0-9a-f]{64}$/.test(one.digest) && one.size >= 0);
  if (isGood) return { config: config!, layers };
  throw new WrennError("invalid_request", `the image's manifest (${mediaType || "of no type"}) is not understood`, {
    remedy: "Push the image anew with a present-day program; its format is one of long ago, or it is damaged.",
  });
}

/** The manifest of the image that the layout has under `tag`. */
export async function manifestOf(store: string, tag: string): Promise<Manifest> {
  const { manifests = [] } = await readIndex(store);
  const own = manifests.find(({ annotations }) => annotations?.[refName] === tag);
  if (!own) throw new WrennError("agent_error", `the store of images has none under ${tag}`);
  return readManifest(await readFile(blobPath(store, own), "utf8"));
}

/** Names an image, whose pieces are there, in the layout's index. */
export async function addToLayout(store: string, tag: string, manifest: Manifest): Promise<void> {
  const text = JSON.stringify({ schemaVersion: 2, mediaType: manifestType, ...manifest });
  const digest = `sha256:${createHash("sha256").update(text).digest("hex")}`;
  await writeFile(blobPath(store, { digest }), text);
  await writeFile(join(store, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const { manifests = [] } = await readIndex(store);
  const others = manifests.filter(({ annotations }) => annotations?.[refName] !== tag);
  const size = Buffer.byteLength(text);
  await writeIndex(store, [...others, { mediaType: manifestType, digest, size, annotations: { [refName]: tag } }]);
}

/**
 * Forgets every image but those under `tags`, and removes the pieces that none of these has. A piece that was touched
 * after `before` stays: a download that broke off goes on with it. Answers the bytes that were freed.
 */
export async function keepInLayout(store: string, tags: ReadonlySet<string>, before: number): Promise<number> {
  const { manifests = [] } = await readIndex(store);
  const kept = manifests.filter(({ annotations }) => tags.has(annotations?.[refName] ?? ""));
  const needed = new Set<string>();
  for (const one of kept) {
    needed.add(blobPath(store, one));
    const { config, layers } = readManifest(await readFile(blobPath(store, one), "utf8"));
    for (const piece of [config, ...layers]) needed.add(blobPath(store, piece));
  }
  // The index first: a name without its pieces would be an error later, pieces without a name are removed the next time.
  if (kept.length < manifests.length) await writeIndex(store, kept);
  let freed = 0;
  for (const name of await readdir(join(store, "blobs/sha256")).catch(() => [])) {
    const path = join(store, "blobs/sha256", name);
    const { mtimeMs, blocks } = await stat(path);
    if (needed.has(path) || mtimeMs > before) continue;
    await rm(path, { force: true });
    freed += blocks * 512;
  }
  return freed;
}

const readIndex = async (store: string): Promise<Index> =>
  JSON.parse(await readFile(join(store, "index.json"), "utf8").catch(() => "{}")) as Index;

async function writeIndex(store: string, manifests: readonly Named[]): Promise<void> {
  const path = join(store, "index.json");
  await writeFile(`${path}.new`, JSON.stringify({ schemaVersion: 2, manifests }));
  await rename(`${path}.new`, path);
}
