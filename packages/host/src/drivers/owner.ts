import { chmod, chown } from "node:fs/promises";
import { mayActForOthers } from "./privileges.ts";

/**
 * User ids of VMMs. A host agent that runs as root gives every VM one of its own, so that a guest which breaks out of
 * the emulation meets no file and no process of another. They need no entry in the user database; the range lies above
 * those of systemd and of user namespaces (systemd documentation, "Users, Groups, UIDs and GIDs").
 */
export const vmmUids = { first: 0x6000_0000, last: 0x6fff_ffff };

/**
 * The group of every VMM, unless it must be the one that may open `/dev/kvm`. QEMU before 8.2 opens the memory of a
 * template for writing although it maps it privately, so the group may; nobody else.
 */
export const vmmGid = vmmUids.first;

/** The user id of the VM called `name`, the same whenever it is asked for; `undefined` when this agent may not start such a process. */
export function ownerOf(name: string): number | undefined {
  if (!mayActForOthers) return undefined;
  const digest = new Bun.CryptoHasher("sha256").update(name).digest();
  return vmmUids.first + (digest.readUInt32LE(0) % (vmmUids.last - vmmUids.first + 1));
}

/** Gives files to the VM called `name`; does nothing when this agent is not root. */
export async function give(name: string, paths: readonly string[]): Promise<void> {
  const uid = ownerOf(name);
  if (uid === undefined) return;
  for (const path of paths) await chown(path, uid, vmmGid);
}

/** Makes files this agent's own again, which VMMs may read, and with `mode` 0660 open for writing; nothing when not root. */
export async function takeBack(gid: number, files: Readonly<Record<string, number>>): Promise<void> {
  for (const [path, mode] of Object.entries(files)) {
    await chmod(path, mode);
    if (mayActForOthers) await chown(path, process.getuid!(), gid);
  }
}
