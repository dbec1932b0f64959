import { closeSync, openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import { cloneFile, SystemError, unsharedBytes } from "./libc.ts";
import type { BaseDisk, Disk, Disks } from "./ports.ts";

/**
 * Disk layers as copies that share their blocks, on file systems that can (XFS, btrfs): a layer is a whole disk by itself
 * that takes space for what was written to it. Making one costs the same however deep it lies, and reads pass no table.
 */
export class Reflink implements Disks {
  readonly name = "reflink";
  readonly gives = "raw" as const;
  readonly extension = "raw";

  async create(base: BaseDisk, path: string): Promise<Disk> {
    try {
      cloneFile(base.path, path, "wx");
    } catch (thrown) {
      await rm(path, { force: true });
      throw refused(base.path, thrown);
    }
    return { ...layer(path), catchUp: async () => cloneFile(base.path, path, "r+") };
  }

  async open(path: string): Promise<Disk> {
    if (!(await Bun.file(path).exists())) throw new WrennError("not_found", `the disk ${path} is missing`);
    return layer(path);
  }

  ownBytes(path: string): number {
    return ownBytes(path);
  }

  async flatten(): Promise<void> {} // no layer needs those it was made from

  async rebase(): Promise<void> {} // nor names them

  async copyOut(path: string, to: string): Promise<void> {
    cloneFile(path, to, "wx");
  }

  async sweep(): Promise<void> {} // files only: nothing is open
}

/** Whether files in this folder can share blocks. */
export async function canReflink(dir: string): Promise<boolean> {
  const probe = await mkdtemp(`${dir}/.reflink-`).catch(() => undefined);
  if (!probe) return false;
  try {
    await Bun.write(`${probe}/a`, new Uint8Array(4096));
    cloneFile(`${probe}/a`, `${probe}/b`, "wx");
    return true;
  } catch {
    return false;
  } finally {
    await rm(probe, { recursive: true, force: true });
  }
}

function refused(from: string, thrown: unknown): unknown {
  if (!(thrown instanceof SystemError)) return thrown;
  return new WrennError("agent_error", `the file system does not let files share blocks with ${from}`, {
    remedy: "Put WRENN_DIR, images included, on one XFS or btrfs; or leave WRENN_DISKS out.",
    cause: thrown,
  });
}

const layer = (path: string): Disk => ({
  path,
  format: "raw",
  device: path,
  usedBytes: async () => ownBytes(path),
  [Symbol.asyncDispose]: async () => {}, // the file is the VMM's to close
});

function ownBytes(path: string): number {
  const fd = openSync(path, "r");
  try {
    return unsharedBytes(fd);
  } finally {
    closeSync(fd);
  }
}
