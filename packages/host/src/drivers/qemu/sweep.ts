import { readdirSync, readFileSync } from "node:fs";
import { killProcess, startTimeOf } from "../process.ts";

/**
 * Kills QEMU processes that a former agent started and did not live to write down: the folder of each stands in its
 * arguments, so /proc tells what no journal can.
 */
export async function sweepQemu(root: string, keep: ReadonlySet<number>): Promise<number[]> {
  const strays = qemusBelow(root).filter((pid) => !keep.has(pid));
  for (const pid of strays) await killProcess({ pid, startTime: startTimeOf(pid) ?? "", ports: [] });
  return strays;
}

/** The QEMU processes whose machines' folders lie below `root`. */
export const qemusBelow = (root: string): number[] =>
  readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && belongs(pid, root));

function belongs(pid: number, root: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return /qemu-system/.test(args[0] ?? "") && args.some((arg) => arg.includes(`path=${root}/`));
  } catch {
    return false; // ended while we looked
  }
}
