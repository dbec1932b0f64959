import { readdirSync, readFileSync } from "node:fs";
import { killProcess, startTimeOf } from "../process.ts";

/**
 * Kills QEMU processes that a former agent started and did not live to write down: the folder of each stands in its
 * arguments, so /proc tells what no journal can.
 */
export async function sweepQemu(root: string, keep: ReadonlySet<number>): Promise<number[]> {
  const killed: number[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || keep.has(pid) || !belongs(pid, root)) continue;
    await killProcess({ pid, startTime: startTimeOf(pid) ?? "", ports: [] });
    killed.push(pid);
  }
  return killed;
}

function belongs(pid: number, root: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return /qemu-system/.test(args[0] ?? "") && args.some((arg) => arg.includes(`path=${root}/`));
  } catch {
    return false; // ended while we looked
  }
}
