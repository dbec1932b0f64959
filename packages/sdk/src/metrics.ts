import type { rest } from "@wrenn/contract";
import type { CallOptions } from "./client.ts";

/** How far back metrics go. */
export type MetricsOptions = CallOptions & {
  /** Default `10m`. A point is half a second of the last ten minutes, half a minute up to `2h`, five minutes up to `24h`. */
  range?: "5m" | "10m" | "1h" | "2h" | "6h" | "12h" | "24h" | undefined;
};

/** Load of a sandbox at one instant. What only the guest knows is absent until it was asked. */
export type MetricPoint = {
  at: Date;
  /** Share of the sandbox's virtual processors, 0 to 100. */
  cpuPercent: number;
  /** Memory that its machine holds on the host. */
  memoryBytes: number;
  /** What it occupies on the host's disk beyond its template. */
  diskBytes: number;
  /** As the guest sees it. */
  guest:
    | {
        memoryUsedBytes: number;
        memoryCacheBytes: number;
        memoryTotalBytes: number;
        diskUsedBytes: number;
        diskTotalBytes: number;
        /** Since the template booted. */
        receivedBytes: number;
        sentBytes: number;
      }
    | undefined;
};

/**
 * A point of the REST API in the SDK's words.
 * @internal
 */
export function metricPoint(from: rest.MetricPoint): MetricPoint {
  const { mem_total_bytes: memoryTotalBytes } = from;
  return {
    at: new Date(from.timestamp_unix * 1000),
    cpuPercent: from.cpu_pct,
    memoryBytes: from.mem_bytes,
    diskBytes: from.disk_bytes,
    guest:
      memoryTotalBytes === undefined
        ? undefined
        : {
            memoryTotalBytes,
            memoryUsedBytes: from.mem_used_bytes ?? 0,
            memoryCacheBytes: from.mem_cache_bytes ?? 0,
            diskUsedBytes: from.disk_used_bytes ?? 0,
            diskTotalBytes: from.disk_total_bytes ?? 0,
            receivedBytes: from.net_rx_bytes ?? 0,
            sentBytes: from.net_tx_bytes ?? 0,
          },
  };
}
