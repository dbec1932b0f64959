import type { rest, SandboxId } from "@wrenn/contract";
import { z } from "zod";
import type { Caller } from "../../services/caller.ts";
import type { Leases } from "../../services/e2b/leases.ts";
import type { Guests } from "../../services/guests.ts";
import { isRunning } from "../../store/phase.ts";
import { type Routes, route, sandboxOf } from "./route.ts";

/** The guest agent's own answer (E2B protocol, section 7). */
const Reading = z.object({
  ts: z.number(),
  cpu_count: z.number(),
  cpu_used_pct: z.number(),
  mem_used: z.number(),
  mem_total: z.number(),
  mem_cache: z.number().default(0),
  disk_used: z.number(),
  disk_total: z.number(),
});

const seconds = z.coerce.number().int().min(0).optional();
const RangeQuery = z.object({ start: seconds, end: seconds });

/** The load of sandboxes, as their guests measure it. */
export function metricRoutes(routes: Routes, leases: Leases, guests: Guests): void {
  const read = async (caller: Caller, id: SandboxId): Promise<rest.e2b.Metric> => {
    const response = await (await guests.open(caller, id)).http("/metrics", {});
    return present(Reading.parse(await response.json()));
  };
  route(routes, "GET /sandboxes/:id/metrics", { query: RangeQuery }, async ({ caller, query, c }) => {
    const row = await leases.get(caller, sandboxOf(c));
    const now = Math.floor(Date.now() / 1000);
    const isInRange = (query.start ?? 0) <= now && now <= (query.end ?? now) + 1;
    return isRunning(row) && isInRange ? [await read(caller, row.id)] : [];
  });
}

const present = (reading: z.output<typeof Reading>): rest.e2b.Metric => ({
  timestamp: new Date(reading.ts * 1000).toISOString(),
  timestampUnix: reading.ts,
  cpuCount: reading.cpu_count,
  cpuUsedPct: reading.cpu_used_pct,
  memUsed: reading.mem_used,
  memTotal: reading.mem_total,
  memCache: reading.mem_cache,
  diskUsed: reading.disk_used,
  diskTotal: reading.disk_total,
});
