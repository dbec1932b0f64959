import { openSync, writeSync } from "node:fs";

/** Kinds of processes, as wrenn-init names their control groups: commands on pipes, and terminals. */
export type Group = "user" | "pty";

const folder = "/sys/fs/cgroup/wrenn";

const files: { [group in Group]?: number } = {};

/** Finds the groups that the init made; without them (another init, a kernel without them) nothing is confined. */
export function openGroups(): void {
  for (const group of ["user", "pty"] as const) {
    try {
      files[group] = openSync(`${folder}/${group}/cgroup.procs`, "w");
    } catch {
      delete files[group];
    }
  }
}

/**
 * Puts a process that was just started, and so everything it will start, under the limits that keep the agent able to
 * answer. It has executed its program by now but hardly more: what it did before counts as the agent's.
 */
export function confine(pid: number, group: Group): void {
  const file = files[group];
  if (file === undefined) return;
  try {
    writeSync(file, String(pid), 0);
  } catch (thrown) {
    if ((thrown as { code?: string }).code !== "ESRCH") console.error(`process ${pid} is not confined`, thrown); // it left
  }
}
