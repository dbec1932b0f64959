import { ptr } from "bun:ffi";
import { closeSync, openSync, readFileSync, statfsSync } from "node:fs";
import { WrennError } from "@wrenn/contract/core";
import { check, libc } from "../native.ts";

/** EXT4_IOC_RESIZE_FS: grows a mounted ext4 to a number of blocks. What resize2fs asks for, which images need not have. */
const resize = 0x4008_6610n;

/** The kernel learns of a larger disk by an interrupt, handled as soon as the machine runs. */
const noticeTimeoutMs = 5_000;
const pollMs = 5;

const sectorBytes = 512;

/** Grows the root file system to a disk of `bytes`. Throws `agent_error` when the disk or the file system does not follow. */
export async function growRoot(bytes: number): Promise<void> {
  const deadline = performance.now() + noticeTimeoutMs;
  while (diskBytes() < bytes) {
    if (performance.now() > deadline) throw new WrennError("agent_error", "the larger disk did not appear");
    await Bun.sleep(pollMs);
  }
  const blocks = new BigUint64Array([BigInt(Math.floor(bytes / statfsSync("/").bsize))]);
  const root = openSync("/", "r");
  try {
    check("EXT4_IOC_RESIZE_FS", libc().ioctl(root, resize, ptr(blocks)));
  } finally {
    closeSync(root);
  }
}

const diskBytes = (): number => Number(readFileSync("/sys/class/block/vda/size", "utf8")) * sectorBytes;
