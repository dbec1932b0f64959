/**
 * Makes a finished folder the image: writes its image.json and exchanges it with the old image in one system call, so a
 * crash leaves either the old image or the new one. The old one, then under the folder's name, is the caller's to remove.
 *
 * Usage: bun images/publish.ts FOLDER TARGET FACTS   (FACTS is a template's image.json; FOLDER and TARGET are neighbours)
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { existsSync } from "node:fs";
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { sparseDigest } from "./digest.ts";

/** renameat2(2): relative paths start at the working directory; the two names are exchanged. */
const atWorkingDirectory = -100;
const renameExchange = 2;

function exchange(one: string, other: string): void {
  const { int, uint32_t: flags } = { int: FFIType.i32, uint32_t: FFIType.u32 };
  const libc = dlopen("libc.so.6", {
    renameat2: { args: [int, FFIType.ptr, int, FFIType.ptr, flags], returns: int },
  });
  const [left, right] = [Buffer.from(`${one}\0`), Buffer.from(`${other}\0`)];
  const at = atWorkingDirectory;
  const status = libc.symbols.renameat2(at, ptr(left), at, ptr(right), renameExchange);
  if (status !== 0) throw new Error(`${one} and ${other} cannot be exchanged: the file system refuses it`);
}

const [folder, target, facts] = process.argv.slice(2);
if (!folder || !target || !facts) throw new Error("usage: bun images/publish.ts FOLDER TARGET FACTS");

const rootfs = `${folder}/rootfs.ext4`;
const image = {
  ...JSON.parse(await readFile(facts, "utf8")),
  name: basename(target),
  digest: await sparseDigest(rootfs),
  sizeBytes: (await stat(rootfs)).size,
  createdAt: new Date().toISOString(),
};
await writeFile(`${folder}/image.json`, `${JSON.stringify(image, null, 2)}\n`);
if (existsSync(target)) exchange(folder, target);
else await rename(folder, target);
