import { type hostagent, parseSandboxId, type rest, type SandboxId, WrennError } from "@wrenn/contract";
import { z } from "zod";
import type { Caller } from "../../services/caller.ts";
import type { Leases } from "../../services/e2b/leases.ts";
import type { Telemetry } from "../../services/telemetry/telemetry.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import { maxPage, type Routes, route, sandboxOf } from "./route.ts";

const seconds = z.coerce.number().int().min(0).optional();
const RangeQuery = z.object({ start: seconds, end: seconds });
const ManyQuery = z.object({
  sandbox_ids: z
    .string()
    .min(1)
    .transform((text) => [...new Set(text.split(","))])
    .pipe(z.array(z.string()).max(maxPage)),
});

/** What is shown when no span is asked for: as the reference, the present. Milliseconds. */
const recentMs = 60_000;

/** The load of sandboxes. Added before the routes whose paths take `metrics` for a sandbox. */
export function metricRoutes(routes: Routes, leases: Leases, telemetry: Telemetry): void {
  route(routes, "GET /sandboxes/metrics", { query: ManyQuery }, async ({ caller, query }) => {
    const ids = query.sandbox_ids.flatMap((text) => parseSandboxId(text) ?? []);
    const found = await Promise.all(
      ids.map(async (id) => [id, await newest({ leases, telemetry }, caller, id)] as const),
    );
    return { sandboxes: Object.fromEntries(found.filter(([, metric]) => metric !== undefined)) };
  });
  route(routes, "GET /sandboxes/:id/metrics", { query: RangeQuery }, async ({ caller, query, c }) => {
    const row = await leases.get(caller, sandboxOf(c));
    const endMs = query.end === undefined ? Date.now() : (query.end + 1) * 1000;
    const startMs = query.start === undefined ? endMs - recentMs : query.start * 1000;
    const { points, cpuCount } = await telemetry.metrics(caller, row.id, { startMs, endMs });
    return points.map((point) => present(point, cpuCount, row));
  });
}

/** What has no load to tell now: it is over, another team's, or its host is away. One of many must not hide the others. */
const silent: readonly string[] = ["not_found", "host_unavailable", "unavailable", "timeout"];

async function newest(
  { leases, telemetry }: { leases: Leases; telemetry: Telemetry },
  caller: Caller,
  id: SandboxId,
): Promise<rest.e2b.Metric | undefined> {
  try {
    const row = await leases.get(caller, id);
    const endMs = Date.now();
    const { points, cpuCount } = await telemetry.metrics(caller, id, { startMs: endMs - recentMs, endMs });
    const point = points.at(-1);
    return point && present(point, cpuCount, row);
  } catch (thrown) {
    if (thrown instanceof WrennError && silent.includes(thrown.code)) return undefined;
    throw thrown;
  }
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
