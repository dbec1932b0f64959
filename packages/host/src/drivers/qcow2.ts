import { constants } from "node:fs";
import { copyFile, realpath, rename, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { BaseDisk, Disk, Disks } from "./ports.ts";

/** Disk layers as qcow2 files over a shared base (QEMU documentation, "qcow2 image format"). */
export class Qcow2 implements Disks {
  readonly name = "qcow2";
  readonly gives = "qcow2" as const;
  readonly extension = "qcow2";

  constructor(readonly qemuImg: string) {}

  async create(base: BaseDisk, path: string): Promise<Disk> {
    // A layer beside its base names it relatively, so that their folder can be renamed.
    if (dirname(base.path) === dirname(path)) await this.#make(basename(base.path), base.format, path);
    // An empty layer is the same for every sandbox of a base: a copy costs a tenth of running qemu-img.
    else await copyFile(await this.#empty(base), path, constants.COPYFILE_FICLONE);
    return layer(path);
  }

  async open(path: string): Promise<Disk> {
    if (!(await Bun.file(path).exists())) throw new WrennError("not_found", `the disk ${path} is missing`);
    return layer(path);
  }

  async flatten(path: string, base: BaseDisk): Promise<void> {
    await this.#run(["rebase", "-q", "-f", "qcow2", "-b", base.path, "-F", base.format, path]);
  }

  async rebase(path: string, base: BaseDisk): Promise<void> {
    // -u: only the name is written, since the content is the same.
    await this.#run(["rebase", "-u", "-q", "-f", "qcow2", "-b", base.path, "-F", base.format, path]);
  }

  async sweep(): Promise<void> {} // files only: nothing is open

  async #empty(base: BaseDisk): Promise<string> {
    const path = `${base.path}.empty`;
    if (await Bun.file(path).exists()) return path;
    const fresh = `${path}.${crypto.randomUUID()}`;
    // Not by way of a link that may go: the name is written into the layer.
    await this.#make(await realpath(base.path), base.format, fresh);
    await rename(fresh, path);
    return path;
  }

  #make(backing: string, format: string, path: string): Promise<void> {
    return this.#run(["create", "-q", "-f", "qcow2", "-b", backing, "-F", format, path]);
  }

  async #run(args: readonly string[]): Promise<void> {
    const child = Bun.spawn([this.qemuImg, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    const said = (await new Response(child.stderr).text()).trim();
    if ((await child.exited) === 0) return;
    const full = said.includes("No space left");
    throw new WrennError(full ? "insufficient_storage" : "agent_error", `qemu-img ${args[0]} failed: ${said}`);
  }
}

const layer = (path: string): Disk => ({
  path,
  format: "qcow2",
  device: path,
  usedBytes: async () => (await stat(path)).blocks * 512,
  [Symbol.asyncDispose]: async () => {}, // the file is the VMM's to close
});
