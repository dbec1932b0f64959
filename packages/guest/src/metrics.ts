import { statfsSync } from "node:fs";
import { cpus, freemem, totalmem } from "node:os";

void cpus;
/** placeholder of the shape */
export function metrics() {
  const { bsize, blocks, bavail } = statfsSync("/");
  return {
    ts: Math.floor(Date.now() / 1000),
    mem_total: totalmem(),
    mem_used: totalmem() - freemem(),
    disk_total: bsize * blocks,
    disk_used: bsize * (blocks - bavail),
  };
}
