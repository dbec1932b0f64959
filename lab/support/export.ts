import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createZstdDecompress } from "node:zlib";
import { type TemplateFacts, templateDisk, templateTypes } from "@wrenn/contract/template-file";
import { exportPath, exportTemplate } from "../../packages/host/src/oci/exports.ts";
import type { RealHost } from "./real-host.ts";

const facts: TemplateFacts = {
  ...{ name: "exported", vcpus: 1, memoryMib: 256, user: "root", workdir: "/root", env: {}, from: [] },
};

type Named = { readonly digest: string };

/** Exports a snapshot as a template and reads a file of the disk in that archive, whose digests and file system it checks. */
export async function fileInExport(host: RealHost, snapshot: string, file: string): Promise<string> {
  const work = await mkdtemp(`${host.dir}/exported-`);
  await using _ = { [Symbol.asyncDispose]: () => rm(work, { recursive: true }) };
  const request = new Request(`http://host${exportPath}${snapshot}`, { method: "POST", body: JSON.stringify(facts) });
  const archive = await exportTemplate(request, host.sandboxes.kitchen);
  await Bun.write(`${work}/archive`, archive);
  await Bun.$`tar -C ${work} -xf ${work}/archive`.quiet();
  const blob = async (named: Named): Promise<string> => {
    const path = `${work}/blobs/${named.digest.replace(":", "/")}`;
    const hash = createHash("sha256");
    await pipeline(createReadStream(path), hash);
    if (named.digest !== `sha256:${hash.digest("hex")}`) throw new Error(`${path} is not what its digest says`);
    return path;
  };
  const { manifests } = (await Bun.file(`${work}/index.json`).json()) as { manifests: Named[] };
  const { layers } = (await Bun.file(await blob(manifests[0]!)).json()) as {
    layers: (Named & { mediaType: string })[];
  };
  const disk = layers.find(({ mediaType }) => mediaType === templateTypes.disk)!;
  await pipeline(createReadStream(await blob(disk)), createZstdDecompress(), createWriteStream(`${work}/disk.tar`));
  await Bun.$`tar -C ${work} -xSf ${work}/disk.tar`.quiet();
  return fileIn(`${work}/${templateDisk}`, file);
}

/** What a file of an ext4 file system holds, which must be without a fault. */
export async function fileIn(disk: string, file: string): Promise<string> {
  await Bun.$`e2fsck -fn ${disk}`.quiet();
  return Bun.$`debugfs -R ${`cat ${file}`} ${disk}`.quiet().text();
}
