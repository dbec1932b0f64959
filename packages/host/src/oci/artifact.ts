import { createReadStream } from "node:fs";
import { lstat, mkdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { createZstdDecompress } from "node:zlib";
import { WrennError } from "@wrenn/contract";
import { TemplateFacts, templateDisk, templateTypes } from "@wrenn/contract/template-file";
import type { Image } from "../images.ts";
import { type DiskBudget, run } from "./commands.ts";
import { addToLayout, blobPath, type Manifest, readManifest } from "./layout.ts";
import { type Descriptor, digestOfFile } from "./registry.ts";

/** What image.json takes of an exported template. */
export type TemplateSettings = Pick<
  Image,
  "defaultUser" | "defaultWorkdir" | "env" | "start" | "ready" | "vcpus" | "memoryMib"
>;

/** Whether this is a template that was exported, rather than an image of files. */
export const isTemplate = ({ config }: Manifest): boolean => config.mediaType === templateTypes.config;

const remedy = "Export the template anew.";

/** Documents of an artifact are a few hundred bytes; this is far more. */
const maxDocumentBytes = 1024 * 1024;

/**
 * Brings an exported template from the tar at `path` into the layout at `store`, under `tag`. Answers false, and does
 * nothing, for an archive of another kind. Every piece is what its digest says, or it is refused.
 */
export async function takeTemplate(path: string, store: string, tag: string, budget: DiskBudget): Promise<boolean> {
  const reader = await Archive.open(path, budget);
  const { manifests = [] } = JSON.parse((await reader.text("index.json")) || "{}") as { manifests?: Descriptor[] };
  const [own] = manifests;
  if (manifests.length !== 1 || !/^sha256:[0-9a-f]{64}$/.test(own?.digest ?? "")) return false;
  const manifest = readManifest(await reader.text(blobPath("", own!)));
  if (!isTemplate(manifest)) return false;
  await mkdir(join(store, "blobs/sha256"), { recursive: true, mode: 0o700 });
  for (const piece of [manifest.config, ...manifest.layers]) await reader.piece(piece, blobPath(store, piece));
  await addToLayout(store, tag, manifest);
  return true;
}

/** A stranger's tar. Its members go to files that are named here, never by it. */
class Archive {
  private constructor(
    readonly path: string,
    readonly names: readonly string[],
    readonly budget: DiskBudget,
  ) {}

  static async open(path: string, budget: DiskBudget): Promise<Archive> {
    const what = "the archive is no tar";
    const listed = await run(["tar", "-tf", path], { what, remedy: "Send what was exported or saved." });
    return new Archive(path, listed.split("\n"), budget);
  }

  /** Text of a member; empty when there is none. */
  async text(name: string): Promise<string> {
    const member = this.#member(name);
    if (!member) return "";
    const cut = ["sh", "-c", `tar -xOf "$1" -- "$2" | head -c ${maxDocumentBytes}`, "sh", this.path, member];
    return await run(cut, { what: "the archive is damaged", remedy });
  }

  /** Writes a piece to a file, if it is what its digest says. */
  async piece(piece: Descriptor, to: string): Promise<void> {
    const member = this.#member(blobPath("", piece));
    if (!member) throw damaged(piece);
    const partial = `${to}.partial`;
    const write = ["sh", "-c", 'tar -xOf "$1" -- "$2" >"$3"', "sh", this.path, member, partial];
    await run(write, { what: "the archive is damaged", remedy, budget: this.budget });
    if ((await digestOfFile(partial)) === piece.digest) return await rename(partial, to);
    await rm(partial, { force: true });
    throw damaged(piece);
  }

  #member(name: string): string | undefined {
    return this.names.find((one) => one.replace(/^\.\//, "") === name);
  }
}

/** Unpacks the disk of a template in the layout into `dir`; answers its settings. */
export async function unpackTemplate(
  store: string,
  manifest: Manifest,
  dir: string,
  budget: DiskBudget,
): Promise<TemplateSettings> {
  const facts = TemplateFacts.safeParse(JSON.parse(await readFile(blobPath(store, manifest.config), "utf8")));
  const [disk, ...others] = manifest.layers;
  if (!facts.success || disk?.mediaType !== templateTypes.disk || others.length > 0)
    throw new WrennError("invalid_request", "the template is of a kind that this version does not know", {
      remedy: "Import it with the version of Wrenn that it was exported with, or a later one.",
    });
  await unpackDisk(blobPath(store, disk), dir, budget);
  const { user: defaultUser, workdir: defaultWorkdir, env, start, ready, vcpus, memoryMib } = facts.data;
  return { defaultUser, defaultWorkdir, env, vcpus, memoryMib, ...(start && { start }), ...(ready && { ready }) };
}

async function unpackDisk(blob: string, dir: string, budget: DiskBudget): Promise<void> {
  const input = createReadStream(blob).pipe(createZstdDecompress()) as AsyncIterable<Uint8Array>;
  const unpack = ["tar", "-xSf", "-", "-C", dir, "--no-same-owner", "--", templateDisk];
  await run(unpack, { what: "the template's disk cannot be unpacked", remedy, budget, input });
  const path = join(dir, templateDisk);
  const found = await lstat(path);
  // A link would lead a guest's disk to any file of this machine.
  if (found.isFile() && found.nlink === 1) return;
  await rm(path, { recursive: true, force: true });
  throw new WrennError("invalid_request", "the template's disk is no file", { remedy });
}

const damaged = ({ digest }: Descriptor) =>
  new WrennError("invalid_request", `the archive's part ${digest.slice(0, 19)}… is missing or damaged`, { remedy });
