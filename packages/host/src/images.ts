import { readdir, stat } from "node:fs/promises";
import { remedyForTemplate, WrennError } from "@wrenn/contract";
import type { Kernel } from "./drivers/ports.ts";

/** An image of `$WRENN_DIR/images`: a root file system that templates are frozen from. */
export type Image = {
  readonly name: string;
  readonly digest: string;
  /** Digest of what it was made of, in its registry or of its archive. */
  readonly source?: string;
  readonly sizeBytes: number;
  readonly defaultUser: string;
  readonly defaultWorkdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly createdAt: string;
  /** A line for the shell that runs in every sandbox from the begin, and one that succeeds when it is ready. */
  readonly start?: string;
  readonly ready?: string;
  /** Size of sandboxes that do not say theirs. */
  readonly vcpus?: number;
  readonly memoryMib?: number;
  /** Path of the ext4 file. */
  readonly rootfs: string;
  /** Apparent size of the ext4 file: the disk a guest sees, MiB. */
  readonly diskMib: number;
};

/** Where images of registries and archives are: apart from those that an operator builds. */
export const importedFolder = (dir: string): string => `${dir}/imported`;

/** The image called `name`. Throws `not_found` with the names there are. */
export async function findImage(dir: string, name: string): Promise<Image> {
  const image = await readImage(dir, name).catch(() =>
    readImage(dir, name, importedFolder(dir)).catch(() => undefined),
  );
  if (image) return image;
  const known = (await listImages(dir)).map((other) => other.name);
  throw new WrennError("not_found", `there is no template "${name}"`, {
    remedy: remedyForTemplate(name, known),
    details: { kind: "template", id: name },
  });
}

/** Every image that an operator built, by name. */
export async function listImages(dir: string): Promise<Image[]> {
  const names = await readdir(`${dir}/images`).catch(() => []);
  const images = await Promise.all(names.sort().map((name) => readImage(dir, name).catch(() => undefined)));
  return images.filter((image) => image !== undefined);
}

async function readImage(dir: string, name: string, folder = `${dir}/images`): Promise<Image> {
  const rootfs = `${folder}/${name}/rootfs.ext4`;
  const [facts, file] = await Promise.all([Bun.file(`${folder}/${name}/image.json`).json(), stat(rootfs)]);
  const image = facts as Omit<Image, "rootfs" | "diskMib">;
  return { ...image, name, rootfs, diskMib: Math.floor(file.size / 2 ** 20) };
}

/** Every image that was made of one of a registry or an archive. */
export async function importedImages(dir: string): Promise<Image[]> {
  const names = await readdir(importedFolder(dir)).catch(() => []);
  const images = names.map((name) => readImage(dir, name, importedFolder(dir)).catch(() => undefined));
  return (await Promise.all(images)).filter((image) => image !== undefined);
}

/** Every image that templates may be frozen from. */
export const allImages = async (dir: string): Promise<Image[]> => [
  ...(await listImages(dir)),
  ...(await importedImages(dir)),
];

/** The kernel with the highest semantic version; the file `vmlinux` without a version comes last. */
export async function newestKernel(dir: string): Promise<Kernel> {
  const names = (await readdir(`${dir}/kernels`).catch(() => [])).filter((name) => /^vmlinux(-\d.*)?$/.test(name));
  const version = (name: string) => name.slice("vmlinux-".length);
  const best = names.sort((a, b) => compareVersions(version(a), version(b))).at(-1);
  if (!best)
    throw new WrennError("not_found", `there is no guest kernel in ${dir}/kernels`, {
      remedy: "Run `make images`, which fetches one.",
    });
  const initrd = `${dir}/kernels/initrd-${version(best)}`;
  return {
    version: version(best) || "unversioned",
    path: `${dir}/kernels/${best}`,
    initrd: best !== "vmlinux" && (await Bun.file(initrd).exists()) ? initrd : undefined,
  };
}

/** Negative when `a` is the lower version: numbers are compared as numbers, a longer version is the higher, none is the lowest. */
export function compareVersions(a: string, b: string): number {
  const parts = (text: string) => text.split(/[.+~-]/).filter(Boolean);
  const [left, right] = [parts(a), parts(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [x, y] = [left[i], right[i]];
    if (x === undefined || y === undefined) return x === y ? 0 : x === undefined ? -1 : 1;
    const [m, n] = [Number(x), Number(y)];
    const order = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
    if (order !== 0) return order;
  }
  return 0;
}
