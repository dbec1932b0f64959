import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { arch } from "node:os";
import { join } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { Tell } from "./importer.ts";
import type { Descriptor, Document, Repository } from "./registry.ts";

type Manifest = { config: Descriptor; layers: Descriptor[] };

/** Between two words about a layer that takes long. */
const tellMs = 2_000;
/** Architectures as images name them. */
const architecture = ({ x64: "amd64", arm64: "arm64" } as Record<string, string>)[arch()] ?? arch();

/** What the same things are called in the two dialects of registries; programs that unpack know the second one. */
const asOci: Readonly<Record<string, string>> = {
  "application/vnd.docker.distribution.manifest.v2+json": "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.container.image.v1+json": "application/vnd.oci.image.config.v1+json",
  "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
  "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
};

/** The document of this machine's architecture: an index names one for each. Throws `invalid_request` when there is none. */
export async function ownDocument(repository: Repository, top: Document): Promise<Document> {
  const { manifests } = JSON.parse(top.bytes.toString()) as { manifests?: Descriptor[] };
  if (!manifests) return top;
  const own = manifests.find(({ platform }) => platform?.os === "linux" && platform.architecture === architecture);
  if (own) return await repository.document(own.digest);
  const found = manifests.map(({ platform }) => `${platform?.os}/${platform?.architecture}`).join(", ");
  throw new WrennError("invalid_request", `the image is for ${found}, not for linux/${architecture}`, {
    remedy: "Choose an image for this architecture.",
  });
}

/**
 * Brings an image into the OCI layout at `store`, under `tag`; blobs that are there are not brought again. `maxBytes` is
 * what its layers may have together, packed.
 */
export async function pullInto(
  store: string,
  { repository, document, tag }: { repository: Repository; document: Document; tag: string },
  maxBytes: number,
  tell: Tell,
): Promise<void> {
  const blobs = join(store, "blobs/sha256");
  await mkdir(blobs, { recursive: true, mode: 0o700 });
  const manifest = readManifest(document);
  const all = [manifest.config, ...manifest.layers];
  const size = all.reduce((sum, one) => sum + one.size, 0);
  if (!(size <= maxBytes))
    throw new WrennError("too_large", `the image's layers have ${mib(size)}, more than ${mib(maxBytes)}`, {
      remedy: "Use a smaller image.",
    });
  for (const [at, blob] of all.entries()) {
    const path = join(blobs, hexOf(blob));
    if (existsSync(path)) continue;
    const what = at === 0 ? "configuration" : `layer ${at} of ${manifest.layers.length}`;
    if (at > 0) tell(`pulling ${what}, ${mib(blob.size)}`);
    let told = performance.now();
    await repository.blob(blob, path, (bytes) => {
      if (performance.now() - told < tellMs) return;
      told = performance.now();
      tell(`${what}: ${mib(bytes)} of ${mib(blob.size)}`);
    });
  }
  await addToLayout(store, tag, manifest);
}

function readManifest({ bytes, mediaType }: Document): Manifest {
  const { config, layers } = JSON.parse(bytes.toString()) as Partial<Manifest>;
  const pieces = [config, ...(layers ?? [])];
  const isGood = layers && pieces.every((one) => one && /^sha256:[0-9a-f]{64}$/.test(one.digest) && one.size >= 0);
  if (isGood) return { config: config!, layers };
  throw new WrennError("invalid_request", `the image's manifest (${mediaType || "of no type"}) is not understood`, {
    remedy: "Push the image anew with a present-day program; its format is one of long ago, or it is damaged.",
  });
}

/** Names the image in the layout's index (OCI image, "Image layout"). */
async function addToLayout(store: string, tag: string, { config, layers }: Manifest): Promise<void> {
  const renamed = (one: Descriptor) => ({
    ...{ mediaType: asOci[one.mediaType] ?? one.mediaType, digest: one.digest, size: one.size },
  });
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const text = JSON.stringify({ schemaVersion: 2, mediaType, config: renamed(config), layers: layers.map(renamed) });
  const hex = createHash("sha256").update(text).digest("hex");
  await writeFile(join(store, "blobs/sha256", hex), text);
  await writeFile(join(store, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const path = join(store, "index.json");
  const index = JSON.parse(await readFile(path, "utf8").catch(() => "{}")) as { manifests?: Named[] };
  const others = (index.manifests ?? []).filter(({ annotations }) => annotations?.[refName] !== tag);
  const own = { mediaType, digest: `sha256:${hex}`, size: Buffer.byteLength(text), annotations: { [refName]: tag } };
  await writeFile(path, JSON.stringify({ schemaVersion: 2, manifests: [...others, own] }));
}

type Named = Descriptor & { annotations?: Record<string, string> };
const refName = "org.opencontainers.image.ref.name";

const hexOf = ({ digest }: Descriptor): string => digest.slice("sha256:".length);

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
