import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { changedRuns } from "../../packages/host/src/drivers/process-memory.ts";
import { pageBytes } from "../../packages/host/src/memory/pages.ts";

/** Resident memory of a process, MiB (proc(5), `status`). */
export function residentMib(pid: number): number {
  return kibOf(readFileSync(`/proc/${pid}/status`, "utf8"), "VmRSS") / 1024;
}

/** Proportional memory of a process, MiB: shared pages count by the share of those who map them (proc(5), `smaps_rollup`). */
export function proportionalMib(pid: number): number {
  return kibOf(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"), "Pss") / 1024;
}

/** MiB of guest memory that are the VM's own, no longer those of the template whose file `memory` it maps. */
export function changedMib(pid: number, memory: string): number {
  const pages = changedRuns(pid, memory).reduce((sum, run) => sum + run.pages, 0);
  return (pages * pageBytes) / 2 ** 20;
}

/** Milliseconds of processor time that all threads of a process have used (kernel documentation, "Scheduler Statistics"). */
export function processorMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const used = threads.map((id) => Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, "utf8").split(" ")[0]));
  return used.reduce((sum, ns) => sum + ns, 0) / 1e6;
}

function kibOf(text: string, name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1];
  if (kib === undefined) throw new Error(`the system does not say ${name}`);
  return Number(kib);
}

/** Ports on which a process listens (proc(5), `/proc/net/tcp`: state 0A, the port in hex). */
export function listeningPorts(pid: number): number[] {
  const sockets = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return []; // closed while we looked
      }
    }),
  );
  const rows = readFileSync("/proc/net/tcp", "utf8").trim().split("\n").slice(1);
  return rows.flatMap((row) => {
    const [, local, , state, , , , , , inode] = row.trim().split(/\s+/);
    return state === "0A" && sockets.has(inode!) ? Number.parseInt(local!.split(":")[1]!, 16) : [];
  });
}

/** A port of the loopback that was free just now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Ends a child with SIGTERM and waits; after `patienceMs` with SIGKILL. */
export async function end(child: Bun.Subprocess, patienceMs = 10_000): Promise<void> {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await child.exited;
  clearTimeout(timer);
}

/** Waits until `look` gives something. Throws naming `what` after `timeoutMs`. */
export async function until<T>(what: string, look: () => Promise<T | undefined>, timeoutMs = 30_000): Promise<T> {
  for (const deadline = performance.now() + timeoutMs; performance.now() < deadline; await Bun.sleep(1)) {
    const found = await look();
    if (found !== undefined) return found;
  }
  throw new Error(`${what} did not happen within ${timeoutMs / 1000} s`);
}
