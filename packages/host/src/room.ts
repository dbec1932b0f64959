import { statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { WrennError } from "@wrenn/contract";

/** Below this much free disk a create or pause would likely fail half-way. */
export const minFreeDiskMib = 512;

/** What must stay free on the host beyond the memory of a machine that nobody waits for yet, so that it starves no sandbox. */
const reserveMib = 1024;

/** Whether there is memory for a machine that is started ahead of need. */
export const hasMemory = (mib: number): boolean => freemem() / 2 ** 20 > mib + reserveMib;

/** Throws `insufficient_storage` unless at least `mib` of disk are free where `path` lies: before anything is written. */
export async function needDisk(path: string, mib: number): Promise<void> {
  const disk = await statfs(path);
  const freeMib = Math.floor((disk.bavail * disk.bsize) / 2 ** 20);
  if (freeMib >= mib) return;
  throw new WrennError("insufficient_storage", `the host has only ${freeMib} MiB of disk left`, {
    remedy: `Free disk space on the host: ${mib} MiB are needed at ${path}.`,
  });
}
