import { existsSync, readFileSync } from "node:fs";
import { WrennError } from "@wrenn/contract";
import type { VmHandle } from "./ports.ts";

/** A killed process is gone within milliseconds; longer means that it hangs in the kernel, and nobody can help. */
const killTimeoutMs = 10_000;

/** Start time of a process in clock ticks since boot (proc(5), field 22 of stat), or `undefined` when it is not there. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Kills the process of `handle`, if it is still that process, and waits until it is gone. */
export async function killProcess(handle: VmHandle): Promise<void> {
  const isSame = () => startTimeOf(handle.pid) === handle.startTime;
  if (!isSame()) return;
  try {
    process.kill(handle.pid, "SIGKILL");
  } catch {
    return; // ended meanwhile
  }
  const deadline = performance.now() + killTimeoutMs;
  while (isSame() && existsSync(`/proc/${handle.pid}`)) {
    if (performance.now() > deadline) throw new WrennError("agent_error", `process ${handle.pid} does not die`);
    await Bun.sleep(1);
  }
}
