import { readFileSync, statfsSync } from "node:fs";
import { cpus } from "node:os";

/** What `GET /metrics` answers; names of E2B protocol section 7, and the bytes received and sent since boot. Sizes in bytes, and in MiB where the name says so. */
export type Metrics = Record<
  | "ts"
  | "cpu_count"
  | "cpu_used_pct"
  | "mem_total"
  | "mem_used"
  | "mem_cache"
  | "mem_total_mib"
  | "mem_used_mib"
  | "mem_cache_mib"
  | "disk_used"
  | "disk_total"
  | "net_rx"
  | "net_tx",
  number
>;

type CpuTime = { busy: number; all: number };

let before: CpuTime = { busy: 0, all: 0 };

/** Load of the machine now; the processors' since the last call, and since boot at the first. */
export function metrics(): Metrics {
  const memory = memoryInfo();
  const used = memory.MemTotal - memory.MemAvailable;
  const { bsize, blocks, bfree } = statfsSync("/");
  return {
    ts: Math.floor(Date.now() / 1000),
    cpu_count: cpus().length,
    cpu_used_pct: cpuUsedPercent(),
    mem_total: memory.MemTotal,
    mem_used: used,
    mem_cache: memory.Cached,
    mem_total_mib: toMib(memory.MemTotal),
    mem_used_mib: toMib(used),
    mem_cache_mib: toMib(memory.Cached),
    disk_used: bsize * (blocks - bfree),
    disk_total: bsize * blocks,
    ...traffic(),
  };
}

const toMib = (bytes: number) => Math.floor(bytes / 1024 / 1024);

/** proc(5): `Name:   value kB`. */
function memoryInfo(): Record<"MemTotal" | "MemAvailable" | "Cached", number> {
  const info = { MemTotal: 0, MemAvailable: 0, Cached: 0 };
  for (const [, name, kib] of readFileSync("/proc/meminfo", "utf8").matchAll(/^(\w+):\s+(\d+)/gm))
    if (name! in info) info[name as keyof typeof info] = Number(kib) * 1024;
  return info;
}

/** proc(5): the first line of `/proc/stat` is `cpu user nice system idle iowait …`, in ticks. */
function cpuUsedPercent(): number {
  const [, ...ticks] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0]!.trim().split(/\s+/).map(Number);
  const all = ticks.slice(0, 8).reduce((sum, value) => sum + value, 0); // guest time is already in user time
  const now = { busy: all - ticks[3]! - ticks[4]!, all };
  const share = now.all > before.all ? (now.busy - before.busy) / (now.all - before.all) : 0;
  before = now;
  return Math.round(Math.max(0, share) * 10_000) / 100;
}

/** proc(5), `/proc/net/dev`: two lines of heading, then `name: received … (8 columns) sent …`, in bytes first. */
function traffic(): Record<"net_rx" | "net_tx", number> {
  const sum = { net_rx: 0, net_tx: 0 };
  for (const line of readFileSync("/proc/net/dev", "utf8").split("\n").slice(2)) {
    const [name, figures] = line.split(":");
    if (!figures || name!.trim() === "lo") continue;
    const columns = figures.trim().split(/\s+/).map(Number);
    sum.net_rx += columns[0]!;
    sum.net_tx += columns[8]!;
  }
  return sum;
}
