import type { hostagent, rest } from "@wrenn/contract";
import { z } from "zod";
import type { Leases } from "../../services/e2b/leases.ts";
import type { Telemetry } from "../../services/telemetry/telemetry.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import { type Routes, route, sandboxOf } from "./route.ts";

const seconds = z.coerce.number().int().min(0).optional();
const RangeQuery = z.object({ start: seconds, end: seconds });

/** What is shown when no span is asked for: as the reference, the present. Milliseconds. */
const recentMs = 60_000;

/** The load of sandboxes. */
export function metricRoutes(routes: Routes, leases: Leases, telemetry: Telemetry): void {
  route(routes, "GET /sandboxes/:id/metrics", { query: RangeQuery }, async ({ caller, query, c }) => {
    const row = await leases.get(caller, sandboxOf(c));
    const endMs = query.end === undefined ? Date.now() : (query.end + 1) * 1000;
    const startMs = query.start === undefined ? endMs - recentMs : query.start * 1000;
    const { points, cpuCount } = await telemetry.metrics(caller, row.id, { startMs, endMs });
    return points.map((point) => present(point, cpuCount, row));
  });
}

const mib = 1024 * 1024;

/** What only the guest knows is taken from the host's view until the guest was asked. */
function present(
  { timestampMs, guest, ...host }: hostagent.MetricPoint,
  cpus: number,
  row: SandboxRow,
): rest.e2b.Metric {
  const timestampUnix = Math.floor(Number(timestampMs) / 1000);
  return {
    timestamp: new Date(timestampUnix * 1000).toISOString(),
    timestampUnix,
    cpuCount: cpus,
    cpuUsedPct: guest?.cpuPct ?? host.cpuPct,
    memUsed: Number(guest?.memUsedBytes ?? host.memBytes),
    memTotal: Number(guest?.memTotalBytes ?? row.memoryMib * mib),
    memCache: Number(guest?.memCacheBytes ?? 0),
    diskUsed: Number(guest?.diskUsedBytes ?? host.diskBytes),
    diskTotal: Number(guest?.diskTotalBytes ?? row.diskMib * mib),
  };
}
