import { readFileSync } from "node:fs";

/** Clock ticks a second and bytes a page as the kernel counts them for every program (proc(5), `_SC_CLK_TCK`; x86-64 and arm64). */
const ticksPerSecond = 100;
const pageBytes = 4096;

/** What a process has used and holds: processor time since it began, ms, and resident memory, bytes. */
export type Usage = { readonly cpuMs: number; readonly memBytes: number };

/** Usage of a process now; `undefined` when it is gone. */
export function usageOf(pid: number): Usage | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // the name before it may hold anything
    const ticks = Number(fields[11]) + Number(fields[12]); // utime, stime
    const resident = Number(fields[21]);
    return { cpuMs: (ticks * 1000) / ticksPerSecond, memBytes: resident * pageBytes };
  } catch {
    return undefined;
  }
}
