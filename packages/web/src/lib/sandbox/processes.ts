import type { Sandbox } from "wrenn";
import { followScript } from "./script.ts";

/** A process of the sandbox, as `ps` in it sees it. */
export type Process = {
  pid: number;
  parent: number;
  user: string;
  cpu: number;
  memory: number;
  seconds: number;
  command: string;
};

/** One look every two seconds: often enough to see something die, seldom enough not to be what is busy. */
const script =
  'while ps -eo pid=,ppid=,user:20=,pcpu=,pmem=,etimes=,args= --sort=-pcpu 2>/dev/null; do echo "--"; sleep 2; done; while echo none; echo "--"; do sleep 2; done';

const line = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+([\d.]+)\s+([\d.]+)\s+(\d+)\s+(.*)$/;

/**
 * Follows the processes of a sandbox: one command in it tells of all of them again and again. `show` gets undefined when
 * the sandbox has no `ps`. Ends with the signal.
 */
export async function followProcesses(
  sandbox: Sandbox,
  signal: AbortSignal,
  show: (processes: Process[] | undefined) => unknown,
): Promise<void> {
  await followScript(sandbox, signal, {
    text: script,
    tag: "dashboard-processes",
    show: (look) => show(look.trim() === "none" ? undefined : read(look)),
  });
}

function read(text: string): Process[] {
  const found: Process[] = [];
  for (const row of text.split("\n")) {
    const [, pid, parent, user, cpu, memory, seconds, command] = line.exec(row) ?? [];
    if (!pid || command!.includes("while ps -eo pid=") || command!.startsWith("ps -eo pid=")) continue;
    const numbers = {
      pid: Number(pid),
      parent: Number(parent),
      cpu: Number(cpu),
      memory: Number(memory),
      seconds: Number(seconds),
    };
    found.push({ ...numbers, user: user!, command: command! });
  }
  return found;
}

/** Sends a signal to any process, not only to those that the agent started. */
export async function signalProcess(
  sandbox: Sandbox,
  pid: number,
  signal: "TERM" | "KILL" | "STOP" | "CONT",
): Promise<void> {
  await sandbox.commands.exec("kill", [`-${signal}`, String(pid)], { user: "root" });
}
