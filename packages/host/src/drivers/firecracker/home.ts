import { chown, copyFile, link, mkdir, rename, rm, stat, symlink } from "node:fs/promises";
import { makeBlockNode } from "../libc.ts";
import { ownerOf } from "../owner.ts";
import type { VmSpec } from "../ports.ts";

/**
 * The folder that a Firecracker process sees as its own. It names every file relatively, so a snapshot that was taken in
 * one home is restored in another, jailed or not: the names `disk`, `memory` and `device` mean that home's files.
 */
export type Home = {
  /** The folder, as this machine names it. */
  readonly root: string;
  /** Where the API's socket is, as this machine names it. */
  readonly socket: string;
  /** Makes the folder fit for a new process. */
  prepare(): Promise<void>;
  /** Makes a file of this machine available under `name`; read only. */
  bring(path: string, name: string): Promise<void>;
  /** Makes the block device or file `device` the one under `disk`, in the place of another. */
  bringDisk(device: string): Promise<void>;
};

/** Short, since the path of a unix socket has 107 characters at most. */
export const socketName = "s";

/** Gives files and folders to the user of the VM called `name`, in the VMMs' group. */
async function own(name: string, gid: number, paths: readonly string[]): Promise<void> {
  const uid = ownerOf(name);
  if (uid !== undefined) for (const path of paths) await chown(path, uid, gid);
}

/** Firecracker beside the agent, in the VM's own folder. For development, and where no static Firecracker is. */
export function plainHome({ name, dir }: Pick<VmSpec, "name" | "dir">, gid: number): Home {
  const place = async (target: string, as: string) => {
    await rm(`${dir}/.${as}`, { force: true });
    await symlink(target, `${dir}/.${as}`);
    await rename(`${dir}/.${as}`, `${dir}/${as}`); // in the place of a former one
  };
  return {
    root: dir,
    socket: `${dir}/${socketName}`,
    prepare: async () => {
      await rm(`${dir}/${socketName}`, { force: true }); // a former process's socket looks ready and is not
      await own(name, gid, [dir]);
    },
    bring: async (path, as) => {
      if (path !== `${dir}/${as}`) await place(path, as);
    },
    bringDisk: async (device) => {
      await own(name, gid, [device]);
      await place(device, "disk");
    },
  };
}

/**
 * The jailer's folder for this VM: its root directory, with hard links and a device node of its own. The path is
 * `{base}/{program}/{id}/root` (jailer documentation, "Jailer Operation").
 */
export function jailHome({ name, dir }: Pick<VmSpec, "name" | "dir">, gid: number, program: string): Home {
  const root = `${dir}/${program}/vm/root`;
  return {
    root,
    socket: `${root}/${socketName}`,
    prepare: async () => {
      await rm(`${dir}/${program}`, { recursive: true, force: true }); // the jailer refuses one that was used
      await mkdir(root, { recursive: true, mode: 0o755 });
      await own(name, gid, [root]);
    },
    bring: async (path, as) => {
      await rm(`${root}/${as}`, { force: true });
      await link(path, `${root}/${as}`).catch(() => copyFile(path, `${root}/${as}`)); // on another file system
    },
    bringDisk: async (device) => {
      const facts = await stat(device);
      const node = `${root}/.disk`;
      await rm(node, { force: true });
      if (facts.isFile()) await link(device, node);
      else makeBlockNode(node, numbersOf(facts));
      await own(name, gid, [node]);
      await rename(node, `${root}/disk`);
    },
  };
}

const numbersOf = ({ rdev }: { rdev: number }) => ({
  major: (rdev >> 8) & 0xfff,
  minor: (rdev & 0xff) | ((rdev >> 12) & 0xfff00),
});
