import { existsSync, readdirSync, readFileSync } from "node:fs";
import { WrennError } from "@wrenn/contract";
import type { Nic, VmHandle } from "./ports.ts";
import { overRoot } from "./privileges.ts";

/** How a VMM process is started. */
export type Launching = {
  readonly link: Nic["link"];
  /** `undefined`: this agent's own user. */
  readonly uid: number | undefined;
  readonly gid: number;
  readonly cwd: string;
  /** File for what it says. */
  readonly log: string;
  /** A descriptor that it gets as number 3. */
  readonly inherit?: number | undefined;
};

/** Starts a VMM in its network name space, as its own user. Its process id is the one that this gives. */
export function spawnVmm(argv: readonly string[], how: Launching): Bun.Subprocess {
  const { link, uid, gid } = how;
  // Only who may enter a name space can do so, so nsenter changes the user afterwards; then it becomes the VMM.
  const ids = uid === undefined ? [] : ["-S", `${uid}`, "-G", `${gid}`];
  const before = overRoot();
  const enter = link.kind === "tap" ? ["nsenter", `--net=/run/netns/${link.netns}`, ...ids, "--"] : [];
  const become =
    before.length > 0 && uid !== undefined && link.kind !== "tap"
      ? ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"]
      : [];
  return Bun.spawn([...before, ...enter, ...become, ...argv], {
    stdio: [
      "ignore",
      Bun.file(`${how.log}.out`),
      Bun.file(how.log),
      ...(how.inherit === undefined ? [] : [how.inherit]),
    ],
    detached: true, // it outlives this agent, and a Ctrl-C in the agent's terminal is not meant for it
    env: { PATH: process.env.PATH ?? "" },
    cwd: how.cwd,
    ...(uid === undefined || link.kind === "tap" || before.length > 0 ? {} : { uid, gid }),
  });
}

/** A killed process is gone within milliseconds; longer means that it hangs in the kernel, and nobody can help. */
const killTimeoutMs = 10_000;

/**
 * Start time of a process in clock ticks since boot (proc(5), field 22 of stat), or `undefined` when it is not there. One
 * that was killed is there until its last thread has ended: the first is a zombie while others still hold its files.
 */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" && readdirSync(`/proc/${pid}/task`).length < 2 ? undefined : fields[19];
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
