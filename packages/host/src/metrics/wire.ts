import type { MessageInitShape } from "@bufbuild/protobuf";
import type { hostagent } from "@wrenn/contract";
import type { Sandbox } from "../sandbox.ts";
import type { Sampler } from "./sampler.ts";
import type { Point } from "./series.ts";

/** What an open start of the span means. */
const recentMs = 10 * 60_000;

/** Answers `GetSandboxMetrics`. */
export async function metricsOf(
  sandbox: Sandbox,
  { startMs, endMs }: hostagent.GetSandboxMetricsRequest,
  sampler: Sampler,
): Promise<MessageInitShape<typeof hostagent.GetSandboxMetricsResponseSchema>> {
  const now = Date.now();
  const end = endMs > 0n ? Number(endMs) : now + 1_000; // the point of this very moment is in it
  const start = startMs > 0n ? Number(startMs) : Math.min(end, now) - recentMs;
  const points = await sampler.points(sandbox, start, end);
  return { cpuCount: sandbox.record.spec.vcpus, points: points.map(pointToWire) };
}

const bytes = (value: number): bigint => BigInt(Math.round(value));

function pointToWire({ guest, ...point }: Point): MessageInitShape<typeof hostagent.MetricPointSchema> {
  return {
    timestampMs: BigInt(point.timestampMs),
    cpuPct: point.cpuPct,
    memBytes: bytes(point.memBytes),
    diskBytes: bytes(point.diskBytes),
    ...(guest && {
      guest: {
        cpuPct: guest.cpuPct,
        memUsedBytes: bytes(guest.memUsedBytes),
        memCacheBytes: bytes(guest.memCacheBytes),
        memTotalBytes: bytes(guest.memTotalBytes),
        diskUsedBytes: bytes(guest.diskUsedBytes),
        diskTotalBytes: bytes(guest.diskTotalBytes),
        netRxBytes: bytes(guest.netRxBytes),
        netTxBytes: bytes(guest.netTxBytes),
      },
    }),
  };
}
