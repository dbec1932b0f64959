import { chownSync, existsSync, linkSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { makeBlockNode, makePipe } from "../libc.ts";
import { ownerOf } from "../owner.ts";
import type { VmSpec } from "../ports.ts";

/**
 * The folder that a Firecracker process sees as its own. It names every file relatively, so a snapshot that was taken in
 * one home is restored in another, jailed or not: the names `disk`, `memory` and `device` mean that home's files.
 *
 * What it takes to make one are names in a folder, some microseconds each: done at once, since handing each of them to
 * another thread takes longer.
 */
export type Home = {
  /** The folder, as this machine names it. */
  readonly root: string;
  /** Where the API's socket is, as this machine names it. */
  readonly socket: string;
  /** Makes the folder fit for a new process. */
  prepare(): void;
  /** Makes a file of this machine available under `name`; read only. */
  bring(path: string, name: string): Promise<void>;
  /** Makes the block device or file `device` the one under `disk`, in the place of another. */
  bringDisk(device: string): void;
  /** Makes a pipe called `name`, in the place of a former one. Gives its path on this machine. */
  bringPipe(name: string): string;
};

/** Short, since the path of a unix socket has 107 characters at most. */
export const socketName = "s";

/** Gives files and folders to the user of the VM called `name`, in the VMMs' group. */
function own(name: string, gid: number, paths: readonly string[]): void {
  const uid = ownerOf(name);
  if (uid !== undefined) for (const path of paths) chownSync(path, uid, gid);
}

function pipe(spec: { name: string; gid: number; path: string }): string {
  rmSync(spec.path, { force: true });
  makePipe(spec.path);
  own(spec.name, spec.gid, [spec.path]);
  return spec.path;
}

/** Firecracker beside the agent, in the VM's own folder. For development, and where no static Firecracker is. */
export function plainHome({ name, dir }: Pick<VmSpec, "name" | "dir">, gid: number): Home {
  const place = (target: string, as: string) => {
    rmSync(`${dir}/.${as}`, { force: true });
    symlinkSync(target, `${dir}/.${as}`);
    renameSync(`${dir}/.${as}`, `${dir}/${as}`); // in the place of a former one
  };
  return {
    root: dir,
    socket: `${dir}/${socketName}`,
    prepare: () => {
      rmSync(`${dir}/${socketName}`, { force: true }); // a former process's socket looks ready and is not
      own(name, gid, [dir]);
    },
    bring: async (path, as) => {
      if (path !== `${dir}/${as}`) place(path, as);
    },
    bringDisk: (device) => {
      own(name, gid, [device]);
      place(device, "disk");
    },
    bringPipe: (as) => pipe({ name, gid, path: `${dir}/${as}` }),
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
    prepare: () => {
      // The jailer refuses one that was used.
      if (existsSync(`${dir}/${program}`)) rmSync(`${dir}/${program}`, { recursive: true, force: true });
      mkdirSync(root, { recursive: true, mode: 0o755 });
      own(name, gid, [root]);
    },
    bring: async (path, as) => {
      rmSync(`${root}/${as}`, { force: true });
      try {
        linkSync(path, `${root}/${as}`);
      } catch {
        await copyFile(path, `${root}/${as}`); // on another file system
      }
    },
    bringDisk: (device) => {
      const facts = statSync(device);
      const node = `${root}/.disk`;
      rmSync(node, { force: true });
      if (facts.isFile()) linkSync(device, node);
      else makeBlockNode(node, numbersOf(facts));
      own(name, gid, [node]);
      renameSync(node, `${root}/disk`);
    },
    bringPipe: (as) => pipe({ name, gid, path: `${root}/${as}` }),
  };
}

const numbersOf = ({ rdev }: { rdev: number }) => ({
  major: (rdev >> 8) & 0xfff,
  minor: (rdev & 0xff) | ((rdev >> 12) & 0xfff00),
});
