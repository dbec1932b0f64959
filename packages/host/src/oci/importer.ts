import { constants } from "node:fs";
import { chmod, lstat, mkdir, mkdtemp, open, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { findImage, type Image, importedFolder, importedImages } from "../images.ts";
import { needDisk } from "../room.ts";
import { isTemplate, type TemplateSettings, takeTemplate, unpackTemplate } from "./artifact.ts";
import { DiskBudget, needProgram, run } from "./commands.ts";
import { blobPath, exportPrefix, keepInLayout, type Manifest, manifestOf } from "./layout.ts";
import { manifestIn, ownDocument, pullConfig, pullInto, type Tell } from "./pull.ts";
import { Reach } from "./reach.ts";
import { readReference } from "./reference.ts";
import { Repository } from "./registry.ts";

/** An image of a registry, and who may read it; or an archive that lies in a file. */
export type ImageSource =
  | { kind: "registry"; reference: string; username?: string | undefined; password?: string | undefined }
  | { kind: "archive"; sha256: string };

/** Part of every imported image's name: a change in how one is made makes all of them anew. */
const layout = 2;
/** An image that no build began with for this long is removed, and its layers with it; when the disk is full, after an hour. */
const keepMs = { usual: 14 * 24 * 3_600_000, pressed: 3_600_000 } as const;
/** Most that one image may take of the host's disk, MiB: far more than the largest that people use. */
const maxImageMib = 24 * 1024;
/** What a guest sees of disk when the image does not need more, MiB: as the usual templates. */
const usualDiskMib = 5_120;
/** Where an image comes from: its digest there, what it is made of, and the registry that it is yet to be pulled from. */
type Origin = { digest: string; manifest: Manifest; repository?: Repository };
type Config = {
  config?: { User?: string; Env?: string[] | null; WorkingDir?: string };
  rootfs?: { diff_ids?: string[] };
};

/**
 * Makes images of registries and archives into images that templates are frozen from. Layers are kept by digest and
 * shared; the same image is made once. Nothing of an image is run here: it is unpacked, given the agent, and packed.
 */
export class Importer {
  readonly #root: string;
  readonly #store: string;
  readonly #reach: Reach;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    readonly config: { readonly dir: string; readonly guestDir: string; readonly registries: readonly string[] },
    readonly log: Logger,
  ) {
    this.#root = importedFolder(config.dir);
    this.#store = join(config.dir, "oci");
    this.#reach = new Reach(config.registries);
  }

  /** Makes the image, or finds it. One at a time: they share a store and the disk. Throws what its source did wrong. */
  import(source: ImageSource, tell: Tell): Promise<Image> {
    const work = this.#queue.then(() => this.#import(source, tell));
    this.#queue = work.catch(() => {});
    return work;
  }

  /** Where archives are until they are imported. */
  get archives(): string {
    return join(this.#store, "archives");
  }

  /** Path of the archive with this digest, whether it is there or not. */
  archive(sha256: string): string {
    return join(this.archives, `${sha256}.tar`);
  }

  /** Removes what an import or export that was killed has left. Call before the first. */
  async heal(): Promise<void> {
    await rm(this.archives, { recursive: true, force: true });
    for (const [folder, prefix] of [
      [this.#root, ".making-"],
      [this.#store, exportPrefix],
    ] as const)
      for (const name of await readdir(folder).catch(() => []))
        if (name.startsWith(prefix)) await rm(join(folder, name), { recursive: true, force: true });
  }

  /**
   * Removes images that no build began with for a while, and layers that no image has any more. What was built on them
   * stays: its disks hold what they need. The same image is brought again when a build names it.
   */
  collect(): Promise<void> {
    const work = this.#queue.then(() => this.#collect(keepMs.usual));
    this.#queue = work.catch(() => {});
    return work;
  }

  async #collect(maxAgeMs: number): Promise<void> {
    const before = Date.now() - maxAgeMs;
    const kept = new Set<string>();
    for (const { name, source } of await importedImages(this.config.dir)) {
      const { mtimeMs } = await stat(this.#stamp(name));
      if (mtimeMs > before) kept.add(tagOf(source ?? ""));
      else {
        await rm(join(this.#root, name), { recursive: true, force: true });
        this.log.info({ image: name, source }, "removed an image that no build began with lately");
      }
    }
    const bytes = await keepInLayout(this.#store, kept, before);
    if (bytes > 0) this.log.info({ bytes }, "removed layers that no image has any more");
  }

  /** The file whose time says when an image was begun with last. */
  #stamp(name: string): string {
    return join(this.#root, name, "image.json");
  }

  /** Room for an image; what nobody used lately makes way for it. Throws `insufficient_storage`. */
  async #makeRoom(): Promise<void> {
    const fits = await needDisk(this.#store, usualDiskMib).then(
      () => true,
      () => false,
    );
    if (fits) return;
    await this.#collect(keepMs.pressed);
    await needDisk(this.#store, usualDiskMib);
  }

  async #import(source: ImageSource, tell: Tell): Promise<Image> {
    this.#check();
    await mkdir(this.#root, { recursive: true });
    await mkdir(this.#store, { recursive: true, mode: 0o700 });
    const from = source.kind === "archive" ? await this.#read(source.sha256, tell) : await this.#lookUp(source, tell);
    const name = await this.#nameOf(from.manifest);
    const present = await findImage(this.config.dir, name).catch(() => undefined);
    if (present) {
      await utimes(this.#stamp(name), new Date(), new Date());
      return { ...present, source: from.digest };
    }
    const started = performance.now();
    await this.#makeRoom();
    const tag = tagOf(from.digest);
    const { repository, manifest } = from;
    if (repository) await pullInto(this.#store, { repository, manifest, tag }, maxImageMib * 2 ** 20, tell);
    const image = await this.#make(name, { tag, digest: from.digest }, tell);
    this.log.info({ image: name, digest: from.digest, ms: Math.round(performance.now() - started) }, "image imported");
    return image;
  }

  #check(): void {
    if (process.getuid?.() !== 0)
      throw new WrennError("agent_error", "images can be imported only where the host agent is root", {
        remedy: "Start the host agent as root: the owners of an image's files can be kept by root only.",
      });
    for (const name of ["skopeo", "umoci"]) needProgram(name);
    needProgram("mke2fs", "e2fsprogs");
  }

  /**
   * An image is its files, which its configuration names by digest, and its settings, wherever it comes from and however
   * it is packed. The name changes with the agent, so that a new one is in what is made then.
   */
  async #nameOf(manifest: Manifest): Promise<string> {
    const agent = await Bun.file(join(this.config.guestDir, ".inputs"))
      .text()
      .catch(() => {
        throw new WrennError("agent_error", `the guest agent's files are missing from ${this.config.guestDir}`, {
          remedy: "Run make images, or set WRENN_GUEST_DIR to the folder builds/guest.",
        });
      });
    const identity = isTemplate(manifest) ? manifest : await this.#contentOf(manifest);
    const key = new Bun.CryptoHasher("sha256").update(JSON.stringify([layout, identity, agent])).digest("hex");
    return `oci-${key.slice(0, 24)}`;
  }

  /** What decides of a configuration what an image becomes. The layers are held to these digests as they are unpacked. */
  async #contentOf(manifest: Manifest): Promise<unknown> {
    const text = await Bun.file(blobPath(this.#store, manifest.config)).text();
    const { config: { User, Env, WorkingDir } = {}, rootfs } = JSON.parse(text) as Config;
    return [rootfs?.diff_ids, User ?? "", Env ?? [], WorkingDir ?? ""];
  }

  /** What a name means now, on this machine's architecture. */
  async #lookUp(source: ImageSource & { kind: "registry" }, tell: Tell): Promise<Origin> {
    const reference = readReference(source.reference);
    const { username, password = "" } = source;
    tell(`looking up ${source.reference}`);
    const repository = new Repository(this.#reach, reference, username ? { username, password } : undefined);
    const document = await ownDocument(repository, await repository.document(reference.version));
    const manifest = manifestIn(document);
    await pullConfig(this.#store, repository, manifest);
    return { repository, digest: document.digest, manifest };
  }

  /** What an archive that was sent here has; brings it into the store, unless it is there. */
  async #read(sha256: string, tell: Tell): Promise<Origin> {
    const digest = `sha256:${sha256}`;
    const known = await manifestOf(this.#store, sha256).catch(() => undefined);
    if (known) return { digest, manifest: known };
    tell("reading the archive");
    await this.#makeRoom();
    const budget = await DiskBudget.of(this.#store, maxImageMib);
    const path = this.archive(sha256);
    if (!(await takeTemplate(path, this.#store, sha256, budget))) {
      const copy = ["skopeo", "copy", "--quiet", "--override-os", "linux", `${await archiveKind(path)}:${path}`];
      await run([...copy, `oci:${this.#store}:${sha256}`], {
        what: "the archive is no image",
        remedy: "Make it with docker save, or as an OCI layout in a tar.",
        budget,
      });
    }
    await rm(path, { force: true });
    return { digest, manifest: await manifestOf(this.#store, sha256) };
  }

  /** Makes the image of what is in the store; the folder gets its name last, so that what is there is whole. */
  async #make(name: string, from: { tag: string; digest: string }, tell: Tell): Promise<Image> {
    const budget = await DiskBudget.of(this.#root, maxImageMib);
    const work = await mkdtemp(join(this.#root, ".making-"));
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(work, { recursive: true, force: true }));
    await mkdir(join(work, "image"), { mode: 0o755 });
    const manifest = await manifestOf(this.#store, from.tag);
    if (isTemplate(manifest)) tell("unpacking its disk");
    const settings = isTemplate(manifest)
      ? await unpackTemplate(this.#store, manifest, join(work, "image"), budget)
      : await this.#makeDisk(work, from.tag, budget, tell);
    const { size: sizeBytes } = await stat(join(work, "image", "rootfs.ext4"));
    const facts = { name, digest: keyed(name), source: from.digest, sizeBytes, ...settings };
    const createdAt = new Date().toISOString();
    await writeFile(join(work, "image", "image.json"), JSON.stringify({ ...facts, createdAt }));
    await rename(join(work, "image"), join(this.#root, name));
    return await findImage(this.config.dir, name);
  }

  /** Unpacks the layers, adds the agent, and packs all of it into a file system below `work`. */
  async #makeDisk(work: string, tag: string, budget: DiskBudget, tell: Tell): Promise<TemplateSettings> {
    const image = `${this.#store}:${tag}`;
    const damaged = { remedy: "Pull it again; if it repeats, the image is damaged.", budget };
    tell("unpacking");
    await run(["umoci", "unpack", "--image", image, join(work, "bundle")], {
      what: "the image cannot be unpacked",
      ...damaged,
    });
    const config = await run(["skopeo", "inspect", "--config", `oci:${image}`], {
      what: "the image is damaged",
      ...damaged,
    });
    const root = join(work, "bundle", "rootfs");
    await chmod(root, 0o755);
    const settings = await settingsOf(JSON.parse(config) as Config, root);
    tell("adding the agent");
    await run([join(this.config.guestDir, "inject"), root], { what: "the agent cannot be added", ...damaged });
    tell("making the file system");
    await this.#pack(root, join(work, "image", "rootfs.ext4"), damaged);
    return settings;
  }

  async #pack(root: string, path: string, options: { remedy: string; budget: DiskBudget }): Promise<void> {
    const used = Number(
      (await run(["du", "-sxm", root], { what: "the image cannot be measured", ...options })).split("\t")[0],
    );
    const mib = Math.max(usualDiskMib, Math.ceil(used * 1.5) + 1_024);
    await using file = await open(path, "w", 0o644);
    await file.truncate(mib * 2 ** 20);
    const extended = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0";
    const make = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "wrenn-root", "-J", "size=16", "-E", extended];
    await run([...make, "-d", root, path], {
      ...{ what: "the file system cannot be made", ...options },
      env: { MKE2FS_CONFIG: join(this.config.guestDir, "mke2fs.conf") },
    });
  }
}

/** What the store calls the image with this digest. */
const tagOf = (digest: string): string => digest.slice("sha256:".length);

/** An image is told by what it was made of; its name says that. */
const keyed = (name: string): string => `sha256:${new Bun.CryptoHasher("sha256").update(name).digest("hex")}`;

/** What `docker save` writes has a manifest.json at its top; an OCI layout has not. */
async function archiveKind(path: string): Promise<"docker-archive" | "oci-archive"> {
  const names = await run(["tar", "-tf", path], {
    what: "the archive is no tar",
    remedy: "Send what docker save wrote.",
  });
  return /^(\.\/)?oci-layout$/m.test(names) && !/^(\.\/)?manifest\.json$/m.test(names)
    ? "oci-archive"
    : "docker-archive";
}

/** User, folder and environment that the image's configuration names. */
async function settingsOf({ config = {} }: Config, root: string) {
  const env = (config.Env ?? []).map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)]);
  const user = (config.User ?? "").split(":")[0]!;
  return {
    defaultUser: /^\d+$/.test(user) ? await nameOf(user, root) : user || "root",
    defaultWorkdir: config.WorkingDir || "/",
    env: Object.fromEntries(env.filter(([name]) => name)) as Record<string, string>,
  };
}

/** The name of an account by its number. The image's file is read without following links out of the image. */
async function nameOf(uid: string, root: string): Promise<string> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW;
  const isFolder = await lstat(join(root, "etc")).then(
    (found) => found.isDirectory(),
    () => false,
  );
  const file = isFolder ? await open(join(root, "etc/passwd"), flags).catch(() => undefined) : undefined;
  const text = (await file?.readFile("utf8")) ?? "";
  await file?.close();
  return (
    text
      .split("\n")
      .find((line) => line.split(":")[2] === uid)
      ?.split(":")[0] ?? "root"
  );
}
