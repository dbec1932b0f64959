import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { link, mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdCompress } from "node:zlib";
import { WrennError } from "@wrenn/contract";
import { ociTypes, TemplateFacts, templateDisk, templateTypes } from "@wrenn/contract/template-file";
import { findSnapshot, type Kitchen } from "../recipes.ts";
import { needDisk } from "../room.ts";
import { needProgram, run } from "./commands.ts";
import { blobPath, exportPrefix } from "./layout.ts";
import type { Descriptor } from "./registry.ts";

/** Where templates are fetched from: `POST /images/exports/{snapshot}` with what they say of themselves. */
export const exportPath = "/images/exports/";

/** Answers the disk of a snapshot as an OCI artifact in a tar. */
export async function exportTemplate(request: Request, kitchen: Kitchen): Promise<Response> {
  const id = new URL(request.url).pathname.slice(exportPath.length);
  const facts = TemplateFacts.safeParse(await request.json().catch(() => undefined));
  if (request.method !== "POST" || !facts.success)
    throw new WrennError("invalid_request", "a template is fetched with POST and what it says of itself");
  const root = join(kitchen.templates.config.dir, "oci");
  await mkdir(root, { recursive: true, mode: 0o700 });
  const work = await mkdtemp(join(root, exportPrefix));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(work, { recursive: true, force: true }));
  await copyDisk(kitchen, id, join(work, templateDisk));
  const names = await writeLayout(work, facts.data);
  const tar = Bun.spawn(["tar", "-cf", "-", "-C", join(work, "layout"), "--owner=0", "--group=0", ...names], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const made = undo.move();
  request.signal.addEventListener("abort", () => tar.kill(), { once: true });
  void tar.exited.then(() => made.disposeAsync());
  return new Response(tar.stdout, { headers: { "content-type": "application/x-tar" } });
}

/** The disk as one file: its journal is played back, as it was in use, and what was deleted in it is not there any more. */
async function copyDisk(kitchen: Kitchen, snapshot: string, to: string): Promise<void> {
  needProgram("e2fsck", "e2fsprogs");
  using _ = kitchen.holds.hold(snapshot);
  const { layer, spec } = findSnapshot(kitchen, snapshot);
  await needDisk(kitchen.paths.root, spec.diskMib / 2); // most of a disk is empty; what does not fit ends the copy
  await kitchen.drivers.disks.copyOut(kitchen.paths.layer(layer), to);
  const check = ["sh", "-c", 'e2fsck -fy -E discard "$1" || [ $? -le 1 ]', "sh", to]; // 1: something was corrected
  await run(check, { what: "the template's file system is damaged", remedy: "Build it again." });
}

/** Writes the layout below `work`; answers the names of its files, small ones first, so that a reader knows soon what it reads. */
async function writeLayout(work: string, facts: TemplateFacts): Promise<string[]> {
  const layout = join(work, "layout");
  await mkdir(join(layout, "blobs/sha256"), { recursive: true });
  const disk = await packDisk(work, layout);
  const config = await writeBlob(layout, templateTypes.config, facts);
  const manifest = await writeBlob(layout, ociTypes.manifest, {
    ...{ schemaVersion: 2, mediaType: ociTypes.manifest, artifactType: templateTypes.artifact },
    ...{ config, layers: [disk], annotations: { "org.opencontainers.image.title": facts.name } },
  });
  const own = { ...manifest, artifactType: templateTypes.artifact };
  const index = { schemaVersion: 2, mediaType: ociTypes.index, manifests: [own] };
  await writeFile(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(layout, "index.json"), JSON.stringify(index));
  return ["oci-layout", "index.json", ...[manifest, config, disk].map(({ digest }) => blobPath("", { digest }))];
}

async function writeBlob(layout: string, mediaType: string, content: object): Promise<Descriptor> {
  const text = JSON.stringify(content);
  const digest = `sha256:${createHash("sha256").update(text).digest("hex")}`;
  await writeFile(blobPath(layout, { digest }), text);
  return { mediaType, digest, size: Buffer.byteLength(text) };
}

/** The disk as a layer; its holes are no bytes in it. */
async function packDisk(work: string, layout: string): Promise<Descriptor> {
  const path = join(work, "layer");
  const tar = Bun.spawn(["tar", "-cSf", "-", "-C", work, templateDisk], { stdio: ["ignore", "pipe", "ignore"] });
  const hash = createHash("sha256");
  const digesting = new Transform({
    transform(chunk, _, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  await pipeline(Readable.fromWeb(tar.stdout as never), createZstdCompress(), digesting, createWriteStream(path));
  if ((await tar.exited) !== 0) throw new WrennError("agent_error", "the template's disk could not be packed");
  const digest = `sha256:${hash.digest("hex")}`;
  await link(path, blobPath(layout, { digest }));
  return { mediaType: templateTypes.disk, digest, size: (await stat(path)).size };
}
