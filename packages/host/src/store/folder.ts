import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { randomId } from "@wrenn/contract";
import { type Listed, type ObjectStore, storeError, storeFull } from "./objects.ts";

/** Names of files that are being written: a reader never takes one for an object. */
const partial = ".part-";

/** A write of a killed agent is done with after this. */
const partialMs = 3_600_000;

/** Objects as files below a folder: the embedded default, and for hosts that share a file system. */
export class FolderStore implements ObjectStore {
  readonly name: string;

  constructor(readonly root: string) {
    this.name = `file://${root}`;
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    const path = this.#path(key);
    const unfinished = `${dirname(path)}/${partial}${randomId()}`;
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await using file = await open(unfinished, "wx", 0o600);
      await file.writeFile(bytes);
      await file.datasync();
      await rename(unfinished, path);
    } catch (thrown) {
      await rm(unfinished, { force: true }).catch(() => {});
      const { code } = thrown as NodeJS.ErrnoException;
      throw code === "ENOSPC" || code === "EDQUOT"
        ? storeFull(this.name, thrown)
        : storeError(this.name, "cannot be written to", thrown);
    }
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return await readFile(this.#path(key)).catch((thrown) => this.#absent(thrown));
  }

  async has(key: string): Promise<boolean> {
    return (await stat(this.#path(key)).catch((thrown) => this.#absent(thrown))) !== undefined;
  }

  async *list(prefix: string): AsyncIterable<Listed> {
    const folder = prefix.endsWith("/") ? prefix.slice(0, -1) : dirname(prefix);
    const names = await readdir(this.#path(folder), { recursive: true, withFileTypes: true }).catch(
      (thrown) => this.#absent(thrown) ?? [],
    );
    for (const entry of names) {
      if (!entry.isFile()) continue;
      const path = `${entry.parentPath}/${entry.name}`;
      const found = await stat(path).catch(() => undefined); // removed since
      if (!found) continue;
      if (entry.name.startsWith(partial)) {
        if (Date.now() - found.mtimeMs > partialMs) await rm(path, { force: true });
        continue;
      }
      const key = path.slice(this.root.length + 1);
      if (key.startsWith(prefix)) yield { key, modifiedAtMs: found.mtimeMs };
    }
  }

  async remove(key: string): Promise<void> {
    await rm(this.#path(key), { force: true }).catch((thrown) => {
      throw storeError(this.name, "cannot be written to", thrown);
    });
  }

  #path(key: string): string {
    return `${this.root}/${key}`;
  }

  #absent(thrown: NodeJS.ErrnoException): undefined {
    if (thrown.code === "ENOENT") return undefined;
    throw storeError(this.name, "cannot be read", thrown);
  }
}
