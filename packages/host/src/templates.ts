import { constants, existsSync } from "node:fs";
import { copyFile, link, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import type { HostConfig } from "./config.ts";
import type { BootSpec, Drivers, Frozen, Kernel, Vmm } from "./drivers/ports.ts";
import { agentOf, type GuestAgent } from "./guest-agent.ts";
import { allImages, findImage, type Image, listImages, newestKernel } from "./images.ts";
import { Importer } from "./oci/importer.ts";
import { randomToken, rehearse } from "./rehearsal.ts";
import { minFreeDiskMib, needDisk } from "./room.ts";
import { startServer } from "./start.ts";

/** Layout of a template's folder; part of its key, so that a new layout freezes anew. */
const layout = 2;

/**
 * Rounds of rehearsal before the freeze: what they load, compile and cache stays in the memory that every sandbox starts
 * from. A collection of garbage throws away what was made ready for functions that are some seconds old, so rounds
 * follow on the first; the second keeps what they made and leaves no garbage to every sandbox.
 */
const rounds = { before: 2, after: 2 };

/** A template ready to restore. */
export type Template = {
  readonly key: string;
  readonly image: Image;
  readonly frozen: Frozen;
  readonly kernel: string;
  /** {@link Vmm.fingerprint} of the VMM that froze it: another cannot restore it. */
  readonly fingerprint: string;
};

/** A size of a virtual machine. */
export type Size = { readonly vcpus: number; readonly memoryMib: number };

/** The size of sandboxes of an image that do not say theirs. */
export const sizeOf = (image: Image, usual: Size): Size => ({
  vcpus: image.vcpus ?? usual.vcpus,
  memoryMib: image.memoryMib ?? usual.memoryMib,
});

type TemplateFile = { image: Image; kernel: string; vcpus: number; memoryMib: number; fingerprint: string };

/** The key of a template that was frozen on another host and is called `id` in the store: nothing new starts from it. */
export const movedKey = (id: string): string => `moved-${id}`;
const isMoved = (key: string): boolean => key.startsWith("moved-");

const firstStart = (name: string) =>
  new WrennError("unavailable", `the template ${name} is started for the first time here, which takes minutes`, {
    remedy: "Try again in a minute; from then on it starts at once.",
    details: { template: name, retry_after_sec: "15" },
  });

/** Folder of a template that is being made, with the process that makes it. */
const unfinished = /^\.making-(\d+)-/;

/** Frozen templates: one for each image, size, kernel and VMM; each is made once, on first use. */
export class Templates implements AsyncDisposable {
  readonly #making = new Map<string, Promise<Template>>();
  readonly #root: string;
  /** Makes images of registries and archives. */
  readonly importer: Importer;
  #isClosed = false;

  constructor(
    readonly config: HostConfig,
    readonly drivers: Drivers,
    readonly log: Logger,
  ) {
    this.#root = `${config.dir}/templates`;
    this.importer = new Importer(config, log);
  }

  /** The frozen template of an image at a size; freezes it when there is none, which takes seconds. */
  async ready(name: string, size: Size): Promise<Template> {
    const [image, kernel] = await Promise.all([findImage(this.config.dir, name), newestKernel(this.config.dir)]);
    const key = await this.#key(image, kernel, size);
    const making =
      this.#making.get(key) ?? this.#load(key).then((found) => found ?? this.#make(key, image, kernel, size));
    this.#making.set(key, making);
    return making.catch((thrown) => {
      this.#making.delete(key);
      throw thrown;
    });
  }

  /**
   * As {@link ready}, for somebody whose client waits no longer than usual: throws `unavailable` when the template has a
   * program that takes longer to start. That goes on, so that a later try finds it done.
   */
  async readySoon(name: string, size: Size): Promise<Template> {
    const { start } = await this.image(name);
    const making = this.ready(name, size);
    if (!start) return await making;
    making.catch(() => {}); // nobody may be left to hear it
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(late.resolve, this.config.patienceMs);
    const first = await Promise.race([making, late.promise]).finally(() => clearTimeout(timer));
    if (!first) throw firstStart(name);
    return first;
  }

  /** The image called `name`. Throws `not_found` with the names there are. */
  image(name: string): Promise<Image> {
    return findImage(this.config.dir, name);
  }

  /** The kernel that machines boot. Throws `not_found` when there is none. */
  kernel(): Promise<Kernel> {
    return newestKernel(this.config.dir);
  }

  /** The template with this key. Throws `not_found` when its folder is gone or not whole. */
  async byKey(key: string): Promise<Template> {
    const template = await this.#load(key);
    if (!template) throw new WrennError("not_found", `the template ${key} is missing from ${this.#root}`);
    return template;
  }

  /** The same, for restoring what was saved over it. Throws `conflict` when another VMM saved it, rather than try. */
  async restorable(key: string): Promise<Template> {
    const template = await this.byKey(key);
    const { fingerprint } = this.drivers.vmm;
    if (template.fingerprint === fingerprint) return template;
    const details = { saved: template.fingerprint ?? "unknown", here: fingerprint };
    throw new WrennError("conflict", "the snapshot was saved by another virtual machine than this host runs now", {
      remedy: "Resume it on a host with the same VMM, processor and wrenn-agent version, or without its memory.",
      details,
    });
  }

  /** Every image, and whether it is frozen at its own size, or `usual` when it has none. */
  async list(usual: Size): Promise<{ image: Image; ready: boolean }[]> {
    const kernel = await newestKernel(this.config.dir).catch(() => undefined);
    const images = await listImages(this.config.dir);
    const isReady = async (image: Image) =>
      !!kernel && !!(await this.#load(await this.#key(image, kernel, sizeOf(image, usual))));
    return Promise.all(images.map(async (image) => ({ image, ready: await isReady(image) })));
  }

  /** Freezes every image, one after the other, so that the first create need not wait for it; what has to start a server comes last. */
  async prepare(usual: Size): Promise<void> {
    const images = await listImages(this.config.dir);
    for (const image of images.sort((a, b) => Number(!!a.start) - Number(!!b.start)))
      if (!this.#isClosed)
        await this.ready(image.name, sizeOf(image, usual)).catch((error) =>
          this.log.warn({ template: image.name, error }, "not frozen ahead of time"),
        );
  }

  /** Removes what a killed freeze left. Call before the first `ready`. */
  async heal(): Promise<void> {
    await this.importer.heal();
    for (const name of await readdir(this.#root).catch(() => []))
      if (unfinished.test(name) && !existsSync(`/proc/${unfinished.exec(name)![1]}`))
        await rm(`${this.#root}/${name}`, { recursive: true, force: true });
  }

  /** Removes templates of images that were replaced since, unless a sandbox or snapshot stands on them: `needed` are those. */
  async collect(needed: ReadonlySet<string>): Promise<void> {
    const current = new Set((await allImages(this.config.dir)).map(({ digest }) => digest));
    for (const key of await readdir(this.#root).catch(() => [])) {
      const isOther = needed.has(key) || key.startsWith("."); // one that is being made
      const template = isOther ? undefined : await this.#load(key);
      if (!template || (current.has(template.image.digest) && !isMoved(key))) continue;
      this.log.info({ template: template.image.name, key }, "removing a template that nobody needs any more");
      this.#making.delete(key);
      await rm(`${this.#root}/${key}`, { recursive: true, force: true });
    }
  }

  /** Removes imported images that no build began with for long, and templates that only they were for. */
  async tidy(needed: () => ReadonlySet<string>): Promise<void> {
    await this.importer.collect();
    await this.collect(needed());
  }

  /** Ends freezes that are under way: for a shutdown. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.drivers.vmm.sweep(this.#root, new Set());
    await Promise.allSettled(this.#making.values());
  }

  async #key(image: Image, kernel: Kernel, size: Size): Promise<string> {
    const file = await stat(kernel.path);
    const parts = [layout, image.digest, kernel.version, file.size, file.mtimeMs, size.vcpus, size.memoryMib];
    const server = image.start ? [image.start, image.ready, image.defaultUser, JSON.stringify(image.env)] : [];
    const all = [
      ...parts,
      ...server,
      this.drivers.vmm.fingerprint,
      this.drivers.disks.name,
      this.drivers.nets.name,
    ].join("\n");
    return new Bun.CryptoHasher("sha256").update(all).digest("hex").slice(0, 24);
  }

  async #load(key: string): Promise<Template | undefined> {
    const dir = `${this.#root}/${key}`;
    const file = (await Bun.file(`${dir}/template.json`)
      .json()
      .catch(() => undefined)) as TemplateFile | undefined;
    if (!file) return undefined;
    const disk = { path: `${dir}/disk.${this.drivers.disks.extension}`, format: this.drivers.disks.gives };
    return {
      key,
      image: file.image,
      kernel: file.kernel,
      fingerprint: file.fingerprint,
      frozen: { dir, disk, vcpus: file.vcpus, memoryMib: file.memoryMib },
    };
  }

  /** Boots the image, warms its agent up, freezes it. The folder gets its name last, so a killed freeze leaves no template. */
  async #make(key: string, image: Image, kernel: Kernel, size: Size): Promise<Template> {
    const started = performance.now();
    await needDisk(this.#root, size.memoryMib + minFreeDiskMib); // all of the guest's memory may come to be written
    this.log.info({ template: image.name, ...size }, "freezing a template: boots once, takes some seconds");
    const dir = `${this.#root}/.making-${process.pid}-${key}`;
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(dir, { recursive: true, force: true }));
    await this.#freezeInto(dir, image, kernel, size);
    const { fingerprint } = this.drivers.vmm;
    const file: TemplateFile = { image, kernel: kernel.version, ...size, fingerprint };
    await Bun.write(`${dir}/template.json`, JSON.stringify(file));
    const isTaken = await rename(dir, `${this.#root}/${key}`).then(
      () => false,
      async (thrown) => {
        if (await this.#load(key)) return true; // an agent that shares the folder was faster
        throw thrown;
      },
    );
    if (!isTaken) undo.move();
    this.log.info({ template: image.name, ms: Math.round(performance.now() - started) }, "template frozen");
    return this.byKey(key);
  }

  async #freezeInto(dir: string, image: Image, kernel: Kernel, size: Size): Promise<void> {
    const { vmm, disks, nets } = this.drivers;
    // A hard link keeps these very bytes, also when a new build takes the image's name.
    await link(image.rootfs, `${dir}/rootfs.ext4`).catch(
      () => copyFile(image.rootfs, `${dir}/rootfs.ext4`, constants.COPYFILE_FICLONE), // on another file system
    );
    await using held = new AsyncDisposableStack();
    const disk = held.use(
      await disks.create({ path: `${dir}/rootfs.ext4`, format: "raw" }, `${dir}/disk.${disks.extension}`),
    );
    const nic = held.use(await nets.attach(`template-${image.name}`));
    const memory = `${dir}/memory`;
    await using file = await open(memory, "w", 0o600);
    await file.truncate(size.memoryMib * 2 ** 20);
    const spec: BootSpec = { name: `template-${image.name}`, dir, ...size, disk, nic, memory, kernel };
    const vm = held.use(await vmm.boot(spec));
    await this.#warmUp(agentOf({ nic }), vm.exited, image);
    await vm.stop();
    await vmm.freeze(vm, dir);
    await file.sync();
  }

  async #warmUp(agent: GuestAgent, exited: Promise<string>, image: Image): Promise<void> {
    await agent.ready(this.config.readyTimeoutMs, exited);
    await startServer(agent, image);
    const token = randomToken();
    await rehearse(agent, { image, token, rounds: rounds.before });
    await agent.prepare(token);
    await rehearse(agent, { image, token, rounds: rounds.after });
    await agent.prepare(token);
    await agent.open(token); // a restored guest takes its identity from whoever comes first, which is this host
  }
}
