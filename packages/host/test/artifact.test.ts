import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { WrennError } from "@wrenn/contract";
import { type TemplateFacts, templateTypes } from "@wrenn/contract/template-file";
import { $ } from "bun";
import { takeTemplate, unpackTemplate } from "../src/oci/artifact.ts";
import { DiskBudget } from "../src/oci/commands.ts";
import { exportTemplate } from "../src/oci/exports.ts";
import { blobPath, manifestOf } from "../src/oci/layout.ts";
import { FakeHost } from "./support/host.ts";

const facts: TemplateFacts = {
  ...{ name: "tools", vcpus: 2, memoryMib: 768, user: "app", workdir: "/app", env: { WORD: "kept" } },
  ...{ start: "serve", ready: "check", from: [{ name: "base", digest: "sha256:x" }] },
};

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(`${tmpdir()}/wrenn-artifact-`);
});
afterAll(() => rm(dir, { recursive: true }));

/** A folder of its own. */
const fresh = () => mkdtemp(`${dir}/`);

const failing = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (thrown) => thrown as WrennError,
  );

type Parts = { disk?: Uint8Array; settings?: object; spoil?: (layout: string, layer: string) => Promise<unknown> };

/** An artifact as another installation would write it; `disk` is its layer. */
async function artifact({ disk = randomBytes(1_000), settings = facts, spoil = async () => {} }: Parts = {}) {
  const work = await fresh();
  const blobs = `${work}/layout/blobs/sha256`;
  await mkdir(blobs, { recursive: true });
  const put = async (mediaType: string, content: string | Uint8Array) => {
    const digest = `sha256:${createHash("sha256").update(content).digest("hex")}`;
    await writeFile(`${blobs}/${digest.slice(7)}`, content);
    return { mediaType, digest, size: content.length };
  };
  const layer = await put(templateTypes.disk, disk);
  const config = await put(templateTypes.config, JSON.stringify(settings));
  const manifest = await put("m", JSON.stringify({ schemaVersion: 2, config, layers: [layer] }));
  await writeFile(`${work}/layout/index.json`, JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  await writeFile(`${work}/layout/oci-layout`, '{"imageLayoutVersion":"1.0.0"}');
  await spoil(`${work}/layout`, blobPath(`${work}/layout`, layer));
  await $`tar -cf ${work}/file.tar -C ${work}/layout .`;
  return `${work}/file.tar`;
}

/** A layer of a tar that `make` fills a folder for. */
async function layerOf(make: (folder: string) => Promise<unknown>): Promise<Uint8Array> {
  const folder = await fresh();
  await make(folder);
  const { stdout } = await $`tar -cf - -C ${folder} ${(await readdir(folder)).sort()}`.quiet();
  return Bun.zstdCompress(stdout);
}

async function taken(path: string, into?: string) {
  const store = into ?? (await fresh());
  const budget = await DiskBudget.of(dir, 10_000);
  const isTaken = await takeTemplate(path, store, "tag", budget);
  const target = await fresh();
  const unpack = async () => unpackTemplate(store, await manifestOf(store, "tag"), target, budget);
  return { isTaken, store, target, unpack };
}

test("an exported template is taken with its settings and its disk", async () => {
  const disk = await layerOf((folder) => writeFile(`${folder}/rootfs.ext4`, "the disk"));
  const { isTaken, unpack, target } = await taken(await artifact({ disk }));
  expect(isTaken).toBe(true);
  expect(await unpack()).toEqual({
    ...{ defaultUser: "app", defaultWorkdir: "/app", env: { WORD: "kept" }, start: "serve", ready: "check" },
    ...{ vcpus: 2, memoryMib: 768 },
  });
  expect(await Bun.file(`${target}/rootfs.ext4`).text()).toBe("the disk");
});

test("an archive of another kind is left alone", async () => {
  const folder = await fresh();
  await writeFile(`${folder}/index.json`, JSON.stringify({ manifests: [] }));
  await $`tar -cf ${folder}.tar -C ${folder} .`;
  expect((await taken(`${folder}.tar`)).isTaken).toBe(false);
});

test("a part that is damaged or missing is refused, and nothing of it stays", async () => {
  for (const spoil of [
    (_: string, layer: string) => writeFile(layer, "another"),
    (_: string, layer: string) => rm(layer),
  ]) {
    const store = await fresh();
    const error = await failing(taken(await artifact({ spoil }), store));
    expect([error?.code, error?.message]).toEqual(["invalid_request", expect.stringContaining("missing or damaged")]);
    const left = await readdir(`${store}/blobs/sha256`);
    expect(left.length).toBe(1); // its settings
  }
});

test("a layer that is no archive, holds a link for a disk, or one that leads out, is refused", async () => {
  const secret = `${dir}/secret`;
  await writeFile(secret, "of this machine");
  const hostile = [
    randomBytes(1_000),
    await layerOf((folder) => symlink(secret, `${folder}/rootfs.ext4`)),
    await layerOf((folder) => mkdir(`${folder}/rootfs.ext4`)),
    await layerOf((folder) => writeFile(`${folder}/other`, "x")),
  ];
  for (const disk of hostile) {
    const { unpack, target } = await taken(await artifact({ disk }));
    expect((await failing(unpack()))?.code).toBe("invalid_request");
    const left = await lstat(`${target}/rootfs.ext4`).catch(() => undefined);
    expect(left?.isFile() ?? false).toBe(false);
  }
  expect(await Bun.file(secret).text()).toBe("of this machine");
});

test("settings of a later kind are refused by name", async () => {
  const disk = await layerOf((folder) => writeFile(`${folder}/rootfs.ext4`, "the disk"));
  const { unpack } = await taken(await artifact({ disk, settings: { ...facts, vcpus: "many" } }));
  expect((await failing(unpack()))?.message).toContain("of a kind that this version does not know");
});

test("what a host exports, a host takes, and what was deleted on the disk is not in it", async () => {
  await using host = await FakeHost.start();
  const sandbox = await host.create();
  const { id } = await host.sandboxes.checkpoint(sandbox.id, false);
  const rootfs = `${host.dir}/images/minimal/rootfs.ext4`;
  await $`mke2fs -q -F ${rootfs}`.env({ ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }).quiet();
  const request = new Request(`http://host/images/exports/${id}`, { method: "POST", body: JSON.stringify(facts) });
  const response = await exportTemplate(request, host.sandboxes.kitchen);
  const path = `${await fresh()}/exported.tar`;
  await Bun.write(path, response);
  const { isTaken, unpack, target } = await taken(path);
  expect(isTaken).toBe(true);
  expect(await unpack()).toMatchObject({ defaultUser: "app", start: "serve" });
  expect((await lstat(`${target}/rootfs.ext4`)).size).toBe(2 ** 20);
  const exporting = (await readdir(`${host.dir}/oci`)).filter((name) => name.startsWith(".export-"));
  expect(exporting).toEqual([]);
});
