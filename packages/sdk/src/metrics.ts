import type { rest } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";
import { pathOf } from "./lifecycle.ts";
import { connected, dataOf, type FollowOptions } from "./server-events.ts";

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

/**
 * Points of a sandbox's load: those of the range, then new ones as they come, until the sandbox is gone or `signal`
 * aborts. A connection that is lost is opened again, and no point is told twice.
 * @internal
 */
export async function* followMetrics(
  client: Api,
  id: string,
  { range = "10m", ...how }: MetricsOptions & FollowOptions,
): AsyncGenerator<MetricPoint[], void> {
  let last = 0;
  for await (const block of connected(client, `${pathOf(id)}/metrics?range=${range}&follow=true`, how)) {
    if (/^event: end$/m.test(block)) return;
    const points = (dataOf<rest.MetricPoint[]>(block) ?? []).filter((one) => one.timestamp_unix > last);
    if (points.length === 0) continue;
    last = points.at(-1)!.timestamp_unix;
    yield points.map(metricPoint);
  }
}

/** Load of a sandbox over ten seconds, in percent of what it has. */
export type Load = { at: Date; cpuPercent: number; memoryPercent: number };

/**
 * Loads of up to 100 sandboxes by id: the last five minutes, then what comes every ten seconds, until `signal` aborts.
 * @internal
 */
export async function* followLoads(
  client: Api,
  ids: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<Map<string, Load[]>, void> {
  const query = new URLSearchParams({ ids: ids.join(",") });
  for await (const block of connected(client, `/v1/capsules/loads?${query}`, { signal })) {
    const found = dataOf<Record<string, rest.Load[]>>(block) ?? {};
    yield new Map(
      Object.entries(found).map(([id, points]) => [
        id,
        points.map(({ at, cpu_pct, mem_pct }) => ({
          at: new Date(at * 1000),
          cpuPercent: cpu_pct,
          memoryPercent: mem_pct,
        })),
      ]),
    );
  }
}
