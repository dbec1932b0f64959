import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

/** What one VMM gets. */
export type VmmSize = { readonly vcpus: number; readonly memoryMib: number };

/** Bounds around VMM processes, so that one that swells or spins takes nothing from the others. */
export interface Limits {
  /** What is bounded and where, or why nothing is. */
  readonly detail: string;
  /** Puts the process under bounds of its own. Call before it runs anything of a guest. */
  confine(name: string, pid: number, size: VmmSize): Promise<void>;
  /** Removes the bounds of a process that has ended. */
  release(name: string): Promise<void>;
  /** Removes those that a killed agent left, except the names in `keep`. */
  sweep(keep: ReadonlySet<string>): Promise<void>;
  /** Removes what was made for all of them, when none is left. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Beyond its guest's memory a VMM holds its own: QEMU with a full buffer of translated code (128 MiB) was seen at 190 MiB.
 * The page cache of its disk counts too, and goes first when the bound is met.
 */
const overheadMib = 384;

/** A thread for each virtual processor, and QEMU's pool of at most 64 for disk requests. */
const overheadTasks = 96;

/** The device emulation and user networking run beside the virtual processors. */
const overheadCpus = 1;

const periodUs = 100_000;

/** Shares of the processors of one group by default, and the most of them: version 2's file, and version 1's. */
const weights = [
  { file: "cpu.weight", one: 100, most: 10_000 },
  { file: "cpu.shares", one: 1_024, most: 262_144 },
] as const;

/** Folders under which a group is made for each VMM, and the files that bound it. */
type Layout = { readonly parents: readonly string[]; readonly files: (size: VmmSize) => Record<string, string> };

const bytes = ({ memoryMib }: VmmSize) => `${(memoryMib + overheadMib) * 2 ** 20}`;
const tasks = ({ vcpus }: VmmSize) => `${overheadTasks + vcpus}`;
const quota = ({ vcpus }: VmmSize) => `${(vcpus + overheadCpus) * periodUs}`;

const unified = (size: VmmSize): Record<string, string> => ({
  "memory.max": bytes(size),
  "memory.oom.group": "1", // half a VMM is no use
  "pids.max": tasks(size),
  "cpu.max": `${quota(size)} ${periodUs}`,
});

const legacy = (size: VmmSize): Record<string, string> => ({
  "memory.limit_in_bytes": bytes(size),
  "pids.max": tasks(size),
  "cpu.cfs_quota_us": quota(size),
});

/** Control groups for the agent of the data folder `dir`: of version 2, or of 1 where the system still has those; nothing where they cannot be written to. */
export async function findLimits(dir: string): Promise<Limits> {
  // Agents that share a machine must not sweep each other's.
  const own = `wrenn/${Bun.hash(dir).toString(36)}`;
  const found: string[] = [];
  for (const find of [findUnified, findLegacy]) {
    const layout = await find(own).catch((thrown) => void found.push((thrown as Error).message));
    if (layout) return new Groups(layout);
  }
  return unlimited(`none: no control group can be made (${found.join("; ")})`);
}

/** No bounds. */
export const unlimited = (detail: string): Limits => ({
  detail,
  confine: async () => {},
  release: async () => {},
  sweep: async () => {},
  [Symbol.asyncDispose]: async () => {},
});

class Groups implements Limits {
  readonly detail: string;

  constructor(readonly layout: Layout) {
    this.detail = `memory, tasks and processors, in ${layout.parents.join(", ")}`;
  }

  async confine(name: string, pid: number, size: VmmSize): Promise<void> {
    const files = Object.entries(this.layout.files(size));
    for (const parent of this.layout.parents) {
      const group = `${parent}/${name}`;
      await mkdir(group, { recursive: true });
      for (const [file, value] of files) if (existsSync(`${group}/${file}`)) await writeFile(`${group}/${file}`, value);
      await writeFile(`${group}/cgroup.procs`, `${pid}`);
      await weigh(parent);
    }
  }

  async release(name: string): Promise<void> {
    for (const parent of this.layout.parents) {
      await remove(`${parent}/${name}`);
      await weigh(parent);
    }
  }

  async sweep(keep: ReadonlySet<string>): Promise<void> {
    for (const parent of this.layout.parents)
      for (const entry of await readdir(parent, { withFileTypes: true }))
        if (entry.isDirectory() && !keep.has(entry.name)) await remove(`${parent}/${entry.name}`);
    for (const parent of this.layout.parents) await weigh(parent);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const parent of this.layout.parents) await rmdir(parent).catch(() => {}); // VMs that run on are in it
  }
}

/**
 * Lets a folder of groups, and the one above that agents share, weigh as much as the VMMs in them: a group weighs as much
 * as one process by default, so a busy machine would give a hundred sandboxes the time of one. A folder that another agent
 * removes meanwhile has nobody to weigh.
 */
async function weigh(parent: string): Promise<void> {
  for (const { file, one, most } of weights) {
    if (!existsSync(`${parent}/${file}`)) continue;
    const set = (folder: string, weight: number) =>
      writeFile(`${folder}/${file}`, `${Math.min(Math.max(weight, one), most)}`).catch(() => {});
    await set(parent, one * (await groupsIn(parent)).length);
    const siblings = await groupsIn(dirname(parent));
    const each = await Promise.all(siblings.map((path) => readFile(`${path}/${file}`, "utf8").then(Number, () => 0)));
    await set(
      dirname(parent),
      each.reduce((sum, weight) => sum + weight, 0),
    );
  }
}

async function groupsIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name));
}

/** The kernel counts a killed process in its group for some milliseconds more. */
async function remove(group: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const thrown = await rmdir(group).then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error,
    );
    if (thrown?.code !== "EBUSY") return; // gone, or in use by an agent that shares this machine
    await Bun.sleep(5);
  }
}

async function findUnified(name: string): Promise<Layout> {
  const mount = "/sys/fs/cgroup";
  const controllers = await readFile(`${mount}/cgroup.controllers`, "utf8").catch(() => "");
  if (!controllers.includes("memory")) throw new Error("version 2 has no memory controller");
  // Outside this agent's own group: a service manager that stops the agent must not kill its VMs with it.
  const parent = `${mount}/${name}`;
  await mkdir(parent, { recursive: true });
  for (const group of [mount, dirname(parent), parent])
    await writeFile(`${group}/cgroup.subtree_control`, "+memory +pids +cpu");
  return { parents: [parent], files: unified };
}

async function findLegacy(name: string): Promise<Layout> {
  const own = await readFile("/proc/self/cgroup", "utf8");
  const parents: string[] = [];
  for (const controller of ["memory", "pids", "cpu"]) {
    const path = new RegExp(`^\\d+:(?:[^:]*,)?${controller}(?:,[^:]*)?:(.*)$`, "m").exec(own)?.[1];
    if (path === undefined) throw new Error(`version 1 has no ${controller} controller`);
    const mount = `/sys/fs/cgroup/${controller}`;
    const parent = join(existsSync(mount + path) ? mount + path : mount, name);
    await mkdir(parent, { recursive: true });
    parents.push(parent);
  }
  return { parents, files: legacy };
}
