import { capsuleId, type hostagent, rest } from "@wrenn/contract";
import type { Telemetry } from "../../services/telemetry/telemetry.ts";
import { type App, endpoint } from "../endpoint.ts";

/** `/v1/capsules/{id}/metrics`: the load of a sandbox (Wrenn REST API 8.7). */
export function telemetryRoutes(app: App, telemetry: Telemetry): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/{id}/metrics",
      summary: "Processor, memory, disk and network of a sandbox over time.",
      query: rest.MetricsQuery,
      status: 200,
      answer: rest.CapsuleMetrics,
      codes: ["host_unavailable", "agent_error"],
    },
    async ({ caller, id, query: { range } }) => {
      const endMs = Date.now();
      const span = { startMs: endMs - rest.metricRanges[range] * 1_000, endMs: 0 };
      const { points } = await telemetry.metrics(caller, id, span);
      return { sandbox_id: capsuleId(id), range, points: points.map(point) } satisfies rest.CapsuleMetrics;
    },
  );
}

/** A host's point as the Wrenn dialect shows it. */
function point({ timestampMs, cpuPct, memBytes, diskBytes, guest }: hostagent.MetricPoint): rest.MetricPoint {
  return {
    timestamp_unix: Math.floor(Number(timestampMs) / 1_000),
    cpu_pct: Math.round(cpuPct * 100) / 100,
    mem_bytes: Number(memBytes),
    disk_bytes: Number(diskBytes),
    ...(guest && {
      mem_used_bytes: Number(guest.memUsedBytes),
      mem_cache_bytes: Number(guest.memCacheBytes),
      mem_total_bytes: Number(guest.memTotalBytes),
      disk_used_bytes: Number(guest.diskUsedBytes),
      disk_total_bytes: Number(guest.diskTotalBytes),
      net_rx_bytes: Number(guest.netRxBytes),
      net_tx_bytes: Number(guest.netTxBytes),
    }),
  };
}
