import { constants } from "node:fs";
import { copyFile, link, mkdir, readdir, rename, rm } from "node:fs/promises";
import { takeBack } from "../drivers/owner.ts";
import type { Drivers } from "../drivers/ports.ts";
import { allImages, type Image } from "../images.ts";
import { minFreeDiskMib, needDisk } from "../room.ts";
import { type Course, fetchFile, heldBytes, type StoredFile, storeFile } from "../store/files.ts";
import type { Shelf } from "../store/shelf.ts";
import { movedKey, type Template, type Templates } from "../templates.ts";

/** What this host keeps beside a template that is in the store: which vault has it, and under which name. */
type Note = { readonly vault: string; readonly id: string };

type Facts = { readonly image: Image };

const noteName = "stored.json";
const rootfsName = "rootfs.ext4";
/** Files of a template's folder that are this host's own: empty layers name it by path. */
const isOwn = (name: string): boolean => name === noteName || name.endsWith(".log") || name.includes(".empty");

/** Frozen templates on their way to the store and back: what sandboxes stand on, byte for byte. */
export class MovingTemplates {
  /** Transfers under way, so that sandboxes of one template share them. */
  readonly #busy = new Map<string, Promise<string>>();

  constructor(
    readonly templates: Templates,
    readonly drivers: Drivers,
    readonly root: string,
  ) {}

  /** Sees to it that the store has a template; gives its name there, a digest of its content. */
  send(key: string, shelf: Shelf, course: Course): Promise<string> {
    return this.#once(`send ${shelf.vault.name} ${key}`, async () => {
      const { frozen, image } = await this.templates.byKey(key);
      const note = await readNote(frozen.dir);
      if (note?.vault === shelf.vault.name && (await shelf.has("templates", note.id, course.signal))) return note.id;
      const files: StoredFile[] = [];
      for (const name of await filesIn(frozen.dir))
        files.push(await storeFile(shelf.vault, `${frozen.dir}/${name}`, course));
      const id = new Bun.CryptoHasher("sha256").update(JSON.stringify(files)).digest("hex").slice(0, 40);
      if (!(await shelf.has("templates", id, course.signal)))
        await shelf.put<Facts>("templates", id, { facts: { image }, files }, course.signal);
      await writeNote(frozen.dir, { vault: shelf.vault.name, id });
      return id;
    });
  }

  /** Sees to it that this host has the template that the store calls `id`; gives its key here. */
  bring(id: string, shelf: Shelf, course: Course): Promise<string> {
    return this.#once(`bring ${shelf.vault.name} ${id}`, async () => {
      const present = await this.#present({ vault: shelf.vault.name, id });
      if (present) return present;
      const { facts, files } = await shelf.get<Facts>("templates", id, course.signal);
      const key = movedKey(id);
      const dir = `${this.root}/.making-${process.pid}-${key}`;
      await rm(dir, { recursive: true, force: true });
      await mkdir(dir, { recursive: true, mode: 0o755 });
      await using undo = new AsyncDisposableStack();
      undo.defer(() => rm(dir, { recursive: true, force: true }));
      await this.#fill(dir, { facts, files }, shelf, course);
      await writeNote(dir, { vault: shelf.vault.name, id });
      await rename(dir, `${this.root}/${key}`);
      undo.move();
      return key;
    });
  }

  async #fill(
    dir: string,
    { facts, files }: { facts: Facts; files: readonly StoredFile[] },
    shelf: Shelf,
    course: Course,
  ): Promise<void> {
    const hasRootfs = await this.#linkRootfs(facts.image, `${dir}/${rootfsName}`);
    const wanted = files.filter(({ name }) => !(hasRootfs && name === rootfsName));
    const bytes = wanted.reduce((sum, file) => sum + heldBytes(file), 0);
    await needDisk(this.root, Math.ceil(bytes / 2 ** 20) + minFreeDiskMib);
    for (const file of wanted) await fetchFile(shelf.vault, file, `${dir}/${file.name}`, course);
    const modes = Object.fromEntries(
      wanted.filter(({ name }) => name !== rootfsName).map(({ name, mode }) => [`${dir}/${name}`, mode]),
    );
    await takeBack(this.drivers.vmm.group, modes);
  }

  /** The image is the largest part, and hosts of one installation mostly have the same: the digest tells. */
  async #linkRootfs({ digest }: Image, path: string): Promise<boolean> {
    const same = (await allImages(this.templates.config.dir)).find((image) => image.digest === digest);
    if (!same) return false;
    await link(same.rootfs, path).catch(() => copyFile(same.rootfs, path, constants.COPYFILE_FICLONE));
    return true;
  }

  async #present(wanted: Note): Promise<string | undefined> {
    for (const key of await readdir(this.root).catch(() => [])) {
      if (key.startsWith(".")) continue;
      const note = await readNote(`${this.root}/${key}`);
      if (note?.vault !== wanted.vault || note.id !== wanted.id) continue;
      const template: Template | undefined = await this.templates.byKey(key).catch(() => undefined);
      if (template) return key;
    }
    return undefined;
  }

  #once(what: string, work: () => Promise<string>): Promise<string> {
    const busy = this.#busy.get(what) ?? work().finally(() => this.#busy.delete(what));
    this.#busy.set(what, busy);
    return busy;
  }
}

async function filesIn(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !isOwn(entry.name))
    .map(({ name }) => name)
    .sort();
}

const readNote = (dir: string): Promise<Note | undefined> =>
  Bun.file(`${dir}/${noteName}`)
    .json()
    .catch(() => undefined);

async function writeNote(dir: string, note: Note): Promise<void> {
  await Bun.write(`${dir}/${noteName}.new`, JSON.stringify(note));
  await rename(`${dir}/${noteName}.new`, `${dir}/${noteName}`);
}
