import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { $ } from "bun";
import { newestKernel } from "../packages/host/src/images.ts";

/** The repository. */
export const root = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

/** Where the lab keeps its host's image and what it made for it. */
export const cache = `${root}/.cache/lab`;

/** Programs that are taken from this machine where they are; the cases that need a missing one are skipped. */
export const borrowed = {
  firecracker: process.env.FIRECRACKER_BIN ?? "/usr/local/bin/firecracker",
  jailer: process.env.JAILER_BIN ?? "/usr/local/bin/jailer",
} as const;

const baseline = `${root}/.tools/node_modules/@oven/bun-linux-x64-baseline/bin/bun`;

/** Files of the working tree that tests in the lab run from. Sent anew at every start: a few MB. */
const workingTree = ["packages/contract", "packages/host", "lab", "bench", "deploy", "scripts", "test", "images"];

/** Builds what is out of date of the host's image. */
export async function hostImage(): Promise<{ disk: string; kernel: string; initrd: string }> {
  const { exitCode } = await $`${root}/lab/image.sh ${cache}`.nothrow();
  if (exitCode !== 0) throw new Error("the lab's host image was not built: see above");
  const kernel = await newestKernel(cache);
  return { disk: `${cache}/host.ext4`, kernel: kernel.path, initrd: kernel.initrd! };
}

/** A tar archive of the working tree, as the new file `path`. */
export async function packTree(path: string): Promise<void> {
  const links = ["node_modules/@wrenn/contract", "node_modules/@wrenn/host"];
  const files = [...workingTree.filter((name) => existsSync(`${root}/${name}`)), "package.json", "README.md", ...links];
  await $`tar -C ${root} --exclude=${"*/node_modules"} --exclude=bench/results -cf ${path} ${files}`;
}

type Input = { readonly from: string; readonly to: string };

/**
 * The disk with everything large: Bun, packages from npm, guest images and kernels, Firecracker. Made again only when
 * one of them has changed. Gives its path.
 */
export async function toolDisk(wrennDir: string): Promise<string> {
  const inputs = await toolInputs(wrennDir);
  const hash = new Bun.CryptoHasher("sha256").update(await Bun.file(import.meta.path).text());
  for (const { from, to } of inputs) {
    const facts = await stat(from);
    hash.update(`${from} ${to} ${facts.size} ${facts.mtimeMs} ${facts.ino}\n`);
  }
  const path = `${cache}/tools-${hash.digest("hex").slice(0, 16)}.ext4`;
  if (existsSync(path)) return path;
  const work = await mkdtemp(`${cache}/work.`);
  try {
    for (const { from, to } of inputs) await place(from, `${work}/tree/${to}`);
    for (const empty of ["repo", "out"]) await mkdir(`${work}/tree/${empty}`, { recursive: true });
    const quick = "^has_journal,^metadata_csum,^64bit";
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    await $`mke2fs -q -t ext4 -m 0 -O ${quick} -E root_owner=0:0 -d ${work}/tree ${work}/disk 12288m`.env(env).quiet();
    await rename(`${work}/disk`, path);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  for (const name of await readdir(cache))
    if (name.startsWith("tools-") && !path.endsWith(name)) await rm(`${cache}/${name}`, { force: true });
  return path;
}

async function toolInputs(wrennDir: string): Promise<Input[]> {
  const inputs: Input[] = [{ from: baseline, to: "bin/bun" }];
  for (const [name, path] of Object.entries(borrowed))
    if (existsSync(path)) inputs.push({ from: path, to: `bin/${name}` });
  for (const name of ["rootfs.ext4", "image.json"])
    inputs.push({ from: `${wrennDir}/images/minimal/${name}`, to: `wrenn/images/minimal/${name}` });
  const kernel = await newestKernel(wrennDir);
  const fuse = `${wrennDir}/kernels/fuse-${kernel.version}.ko`; // for guests that mount volumes
  for (const path of [kernel.path, ...(kernel.initrd ? [kernel.initrd] : []), ...(existsSync(fuse) ? [fuse] : [])])
    inputs.push({ from: path, to: `wrenn/kernels/${path.split("/").at(-1)}` });
  const agent = `${root}/builds/wrenn-agent`;
  if (existsSync(agent)) inputs.push({ from: agent, to: "repo/builds/wrenn-agent" });
  for (const name of await npmClosure(["contract", "host"]))
    inputs.push({ from: `${root}/node_modules/${name}`, to: `repo/node_modules/${name}` });
  return inputs;
}

/** Copies a file or folder; a hard link where that can be, since nobody writes to either. */
async function place(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const { exitCode } = await $`cp -alL ${from} ${to}`.nothrow().quiet();
  if (exitCode === 0) return;
  await rm(to, { recursive: true, force: true });
  await $`cp -aL --sparse=always ${from} ${to}`;
}

/** The packages from npm that our packages `names` need, and those that these need in turn. */
async function npmClosure(names: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  const visit = async (manifest: string): Promise<void> => {
    const { dependencies = {} } = (await Bun.file(manifest).json()) as { dependencies?: Record<string, string> };
    for (const name of Object.keys(dependencies)) {
      if (found.has(name) || name.startsWith("@wrenn/") || !existsSync(`${root}/node_modules/${name}`)) continue;
      found.add(name);
      await visit(`${root}/node_modules/${name}/package.json`);
    }
  };
  for (const name of names) await visit(`${root}/packages/${name}/package.json`);
  return [...found].sort();
}
