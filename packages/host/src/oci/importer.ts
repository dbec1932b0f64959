import { constants } from "node:fs";
import { chmod, lstat, mkdir, mkdtemp, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { findImage, type Image, importedFolder } from "../images.ts";
import { needDisk } from "../room.ts";
import { DiskBudget, needProgram, run } from "./commands.ts";
import { ownDocument, pullInto } from "./pull.ts";
import { Reach } from "./reach.ts";
import { readReference } from "./reference.ts";
import { type Document, Repository } from "./registry.ts";

/** An image of a registry, and who may read it; or an archive that lies in a file. */
export type ImageSource =
  | { kind: "registry"; reference: string; username?: string | undefined; password?: string | undefined }
  | { kind: "archive"; sha256: string };

/** Told what is under way. */
export type Tell = (text: string) => void;

/** Part of every imported image's name: a change in how one is made makes all of them anew. */
const layout = 1;
/** Most that one image may take of the host's disk, MiB: far more than the largest that people use. */
const maxImageMib = 24 * 1024;
/** What a guest sees of disk when the image does not need more, MiB: as the usual templates. */
const usualDiskMib = 5_120;
type Config = { config?: { User?: string; Env?: string[] | null; WorkingDir?: string } };

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

  /** Removes what an import that was killed has left. Call before the first. */
  async heal(): Promise<void> {
    await rm(this.archives, { recursive: true, force: true });
    for (const name of await readdir(this.#root).catch(() => []))
      if (name.startsWith(".making-")) await rm(join(this.#root, name), { recursive: true, force: true });
  }

  async #import(source: ImageSource, tell: Tell): Promise<Image> {
    this.#check();
    await mkdir(this.#root, { recursive: true });
    await mkdir(this.#store, { recursive: true, mode: 0o700 });
    const from = source.kind === "archive" ? { digest: `sha256:${source.sha256}` } : await this.#lookUp(source, tell);
    const { digest } = from;
    const name = await this.#nameOf(digest);
    const present = await findImage(this.config.dir, name).catch(() => undefined);
    if (present) return present;
    const started = performance.now();
    const budget = await DiskBudget.of(this.#root, maxImageMib);
    const tag = digest.slice("sha256:".length);
    await needDisk(this.#store, usualDiskMib);
    if ("repository" in from) await this.#pull({ ...from, tag }, tell);
    else await this.#read(tag, budget, tell);
    const image = await this.#make(name, { tag, digest }, budget, tell);
    this.log.info({ image: name, digest, ms: Math.round(performance.now() - started) }, "image imported");
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

  /** The name changes with the agent, so that a new agent is in the images that are made then. */
  async #nameOf(digest: string): Promise<string> {
    const agent = await Bun.file(join(this.config.guestDir, ".inputs"))
      .text()
      .catch(() => {
        throw new WrennError("agent_error", `the guest agent's files are missing from ${this.config.guestDir}`, {
          remedy: "Run make images, or set WRENN_GUEST_DIR to the folder builds/guest.",
        });
      });
    const key = new Bun.CryptoHasher("sha256").update([layout, digest, agent].join("\n")).digest("hex");
    return `oci-${key.slice(0, 24)}`;
  }

  /** What a name means now. An index names an image for each architecture; its digest tells the image all the same. */
  async #lookUp(source: ImageSource & { kind: "registry" }, tell: Tell) {
    const reference = readReference(source.reference);
    const { username, password = "" } = source;
    tell(`looking up ${source.reference}`);
    const repository = new Repository(this.#reach, reference, username ? { username, password } : undefined);
    const top = await repository.document(reference.version);
    return { repository, top, digest: top.digest };
  }

  /** Brings the layers that are missing into the store. Digests are checked on the way. */
  async #pull(from: { repository: Repository; top: Document; tag: string }, tell: Tell): Promise<void> {
    const { repository, top, tag } = from;
    const document = await ownDocument(repository, top);
    await pullInto(this.#store, { repository, document, tag }, maxImageMib * 2 ** 20, tell);
  }

  /** Brings an archive that was sent here into the store. */
  async #read(sha256: string, budget: DiskBudget, tell: Tell): Promise<void> {
    tell("reading the archive");
    const path = this.archive(sha256);
    const copy = ["skopeo", "copy", "--quiet", "--override-os", "linux", `${await archiveKind(path)}:${path}`];
    await run([...copy, `oci:${this.#store}:${sha256}`], {
      what: "the archive is no image",
      remedy: "Make it with docker save, or as an OCI layout in a tar.",
      budget,
    });
    await rm(path, { force: true });
  }

  /** Unpacks, injects and packs; the folder gets its name last, so that what is there is whole. */
  async #make(name: string, from: { tag: string; digest: string }, budget: DiskBudget, tell: Tell): Promise<Image> {
    const work = await mkdtemp(join(this.#root, ".making-"));
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(work, { recursive: true, force: true }));
    const image = `${this.#store}:${from.tag}`;
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
    await mkdir(join(work, "image"), { mode: 0o755 });
    await this.#pack(root, join(work, "image", "rootfs.ext4"), damaged);
    const facts = {
      name,
      digest: `sha256:${from.tag}`,
      sizeBytes: 0,
      ...settings,
      createdAt: new Date().toISOString(),
    };
    const { size } = await stat(join(work, "image", "rootfs.ext4"));
    await writeFile(
      join(work, "image", "image.json"),
      JSON.stringify({ ...facts, sizeBytes: size, digest: keyed(name) }),
    );
    await rename(join(work, "image"), join(this.#root, name));
    return await findImage(this.config.dir, name);
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
