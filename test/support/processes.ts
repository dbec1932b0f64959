import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Waits until `look` gives something true, and gives that. Throws, naming `what`, when it never does. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  { withinMs = 60_000, everyMs = 25 } = {},
): Promise<NonNullable<T>> {
  for (const deadline = Date.now() + withinMs; ; await Bun.sleep(everyMs)) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`${what} did not come about within ${withinMs / 1000} s`);
  }
}

const argumentsOf = (pid: number): string => read(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? "";
const folderOf = (pid: number): string => read(() => readlinkSync(`/proc/${pid}/cwd`)) ?? "";
const environmentOf = (pid: number): string => read(() => readFileSync(`/proc/${pid}/environ`, "utf8")) ?? "";

/** Processes that belong to a data folder: it stands in their arguments, environment or working directory. */
export function processesOf(dir: string): { pid: number; command: string }[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid)
    .filter((pid) => [argumentsOf(pid), environmentOf(pid), folderOf(pid)].some((text) => mentions(text, dir)))
    .map((pid) => ({ pid, command: argumentsOf(pid).replaceAll("\0", " ").slice(0, 200) }));
}

/** Sandboxes' VMs of a data folder; one of a template that is being frozen is none. */
export const vmsOf = (dir: string) =>
  processesOf(dir).filter(({ command }) => /qemu-system\S* -name (?!template-)/.test(command));

const mentions = (text: string, dir: string): boolean =>
  text.includes(`${dir}/`) || text.split("\0").some((word) => word.endsWith(dir));

/** Whether this very process runs; a zombie does not. */
export function isAlive(pid: number): boolean {
  const stat = read(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  return stat !== undefined && stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z";
}

/** A line of `/proc/PID/status`, such as `Uid` or `VmHWM`, as its numbers. */
export function statusOf(pid: number, name: string): number[] {
  const line = new RegExp(`^${name}:\\s+(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
  return [...line.matchAll(/\d+/g)].map(([digits]) => Number(digits));
}

function read<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined; // it ended while we looked, or is another user's
  }
}
