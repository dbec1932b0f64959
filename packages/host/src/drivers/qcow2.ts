import { realpath, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { WrennError } from "@wrenn/contract";
import type { BaseDisk, Disk, Disks } from "./ports.ts";
import { writeEmptyLayer } from "./qcow2-layer.ts";

/** Disk layers as qcow2 files over a shared base (QEMU documentation, "qcow2 image format"). */
export class Qcow2 implements Disks {
  readonly name = "qcow2";
  readonly gives = "qcow2" as const;
  readonly extension = "qcow2";

  constructor(readonly qemuImg: string) {}

  async create(base: BaseDisk, path: string): Promise<Disk> {
    // A layer beside its base names it relatively, so that their folder can be renamed; else not by way of a link that
    // may go, since the name is written into the layer.
    const isBeside = dirname(base.path) === dirname(path);
    const name = isBeside ? basename(base.path) : await realpath(base.path);
    try {
      writeEmptyLayer(path, base, name);
    } catch (thrown) {
      const isFull = (thrown as NodeJS.ErrnoException).code === "ENOSPC";
      throw isFull ? new WrennError("insufficient_storage", `there is no room for the disk ${path}`) : thrown;
    }
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

  async copyOut(path: string, to: string): Promise<void> {
    await this.#run(["convert", "-q", "-f", "qcow2", "-O", "raw", path, to]);
  }

  async sweep(): Promise<void> {} // files only: nothing is open

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
