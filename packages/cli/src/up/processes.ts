import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** A process for certain: ids are used again, an id together with its start time is not. */
export type Identity = { pid: number; startTime: string };

/** Start time of a process in clock ticks since boot (proc(5), field 22); `undefined` when there is none, or a zombie. */
export function startTimeOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** The identity of a running process. */
export function identityOf(pid: number): Identity | undefined {
  const startTime = startTimeOf(pid);
  return startTime === undefined ? undefined : { pid, startTime };
}

/** Whether this very process still runs. */
export const isRunning = ({ pid, startTime }: Identity): boolean => startTimeOf(pid) === startTime;

/** Processes whose working directory is `dir`, which is how every PostgreSQL process of a data folder is known. */
export function processesIn(dir: string): Identity[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && workingDirectory(name) === dir)
    .flatMap((name) => identityOf(Number(name)) ?? []);
}

function workingDirectory(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** Asks a process to end and waits; kills it when it has not after `patienceMs`. */
export async function stop(process_: Identity, signal: NodeJS.Signals, patienceMs: number): Promise<void> {
  send(process_, signal);
  if (await ended(process_, patienceMs)) return;
  send(process_, "SIGKILL");
  await ended(process_, 5_000);
}

function send(process_: Identity, signal: NodeJS.Signals): void {
  try {
    if (isRunning(process_)) process.kill(process_.pid, signal);
  } catch {
    // It ended between the look and the signal.
  }
}

async function ended(process_: Identity, patienceMs: number): Promise<boolean> {
  for (const deadline = Date.now() + patienceMs; isRunning(process_); await Bun.sleep(20))
    if (Date.now() > deadline) return false;
  return true;
}
