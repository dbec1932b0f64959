import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, rename, rm } from "node:fs/promises";
import { randomId, WrennError } from "@wrenn/contract";
import { Tree } from "./tree.ts";

/** Ids are part of paths: nothing else may be in them. */
const idPattern = /^vol_[0-9a-z]{1,64}$/;
/** Names of volumes that are being removed begin so. */
const going = ".going-";

/** The volumes of this host: a folder each, which nobody but this agent can enter. */
export class Volumes {
  constructor(readonly root: string) {}

  /** Makes an empty volume; one that is there stays as it is. */
  async create(id: string): Promise<void> {
    const path = this.#path(id);
    await mkdir(this.root, { recursive: true, mode: 0o700 });
    await chmod(this.root, 0o700); // whatever the files in it allow, other users of this machine do not get there
    try {
      await mkdir(path);
      await chmod(path, 0o777); // every user of the sandboxes that mount it may put files there
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
    }
  }

  /** Removes a volume with everything in it; absent is fine. */
  async remove(id: string): Promise<void> {
    const path = this.#path(id);
    const leaving = `${this.root}/${going}${randomId()}`; // gone at once, however long its files take
    if (existsSync(path)) await rename(path, leaving);
    await rm(leaving, { recursive: true, force: true });
  }

  /** The files of a volume. Throws `not_found`. */
  open(id: string): Tree {
    try {
      return new Tree(this.#path(id));
    } catch (cause) {
      throw new WrennError("not_found", `this host has no volume ${id}`, { details: { kind: "volume", id }, cause });
    }
  }

  /** Removes what a killed agent was removing. */
  async heal(): Promise<void> {
    for (const name of await readdir(this.root).catch(() => []))
      if (name.startsWith(going)) await rm(`${this.root}/${name}`, { recursive: true, force: true });
  }

  #path(id: string): string {
    if (idPattern.test(id)) return `${this.root}/${id}`;
    throw new WrennError("invalid_request", `"${id}" is not a volume's id`);
  }
}
