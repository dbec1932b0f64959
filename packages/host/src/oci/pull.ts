import { existsSync } from "node:fs";
import { mkdir, utimes } from "node:fs/promises";
import { arch } from "node:os";
import { dirname } from "node:path";
import { WrennError } from "@wrenn/contract";
import { addToLayout, blobPath, type Manifest, readManifest } from "./layout.ts";
import type { Descriptor, Document, Repository } from "./registry.ts";

/** Told what is under way. */
export type Tell = (text: string) => void;

/** As manifests, by the specification. */
const maxConfigBytes = 4 * 2 ** 20;
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
  { repository, manifest, tag }: { repository: Repository; manifest: Manifest; tag: string },
  maxBytes: number,
  tell: Tell,
): Promise<void> {
  const { layers } = manifest;
  const size = layers.reduce((sum, one) => sum + one.size, 0);
  if (!(size <= maxBytes))
    throw new WrennError("too_large", `the image's layers have ${mib(size)}, more than ${mib(maxBytes)}`, {
      remedy: "Use a smaller image.",
    });
  for (const [at, blob] of layers.entries()) {
    const what = `layer ${at + 1} of ${layers.length}`;
    let told = performance.now();
    await fetchBlob(store, repository, blob, (bytes) => {
      if (bytes === 0) return tell(`pulling ${what}, ${mib(blob.size)}`);
      if (performance.now() - told < tellMs) return;
      told = performance.now();
      tell(`${what}: ${mib(bytes)} of ${mib(blob.size)}`);
    });
  }
  await addToLayout(store, tag, manifest);
}

/** Brings the configuration of an image into the layout; it tells what the layers hold. */
export async function pullConfig(store: string, repository: Repository, { config }: Manifest): Promise<void> {
  if (config.size > maxConfigBytes) throw new WrennError("too_large", "the image's configuration is larger than 4 MiB");
  await fetchBlob(store, repository, config, () => {});
}

/** Brings a piece that is not there; `progress` hears 0 first, then the bytes that are there. */
async function fetchBlob(
  store: string,
  repository: Repository,
  blob: Descriptor,
  progress: (bytes: number) => void,
): Promise<void> {
  const path = blobPath(store, blob);
  if (existsSync(path)) return await utimes(path, new Date(), new Date()); // in use again, whatever becomes of this image
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  progress(0);
  await repository.blob(blob, path, progress);
}

/** The manifest that a document is, its pieces named as programs that unpack know them. Throws `invalid_request`. */
export function manifestIn({ bytes, mediaType }: Document): Manifest {
  const { config, layers } = readManifest(bytes.toString(), mediaType);
  return { config: renamed(config), layers: layers.map(renamed) };
}

/** A piece under the name that programs which unpack know. */
const renamed = ({ mediaType, digest, size }: Descriptor): Descriptor => ({
  ...{ mediaType: asOci[mediaType] ?? mediaType, digest, size },
});

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
