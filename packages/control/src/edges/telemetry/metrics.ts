import { capsuleId, type hostagent, parseSandboxId, rest, type SandboxId } from "@wrenn/contract";
import type { Caller } from "../../services/caller.ts";
import type { Telemetry } from "../../services/telemetry/telemetry.ts";
import { type App, endpoint } from "../endpoint.ts";
import { eventFrame, eventStream, keepAlive } from "../event-stream.ts";
import { untilGone } from "./gone.ts";

/** A follower hears more as often as its eyes follow; where points are half a minute apart, as often as there is one. */
const followEveryMs = { fine: 2_000, coarse: 30_000 } as const;
/** Longest span, seconds, in which hosts keep a point a second. */
const fineSec = 600;

/** `/v1/capsules/{id}/metrics`: the load of a sandbox (Wrenn REST API 8.7). */
export function telemetryRoutes(app: App, telemetry: Telemetry): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/{id}/metrics",
      summary: "Processor, memory, disk and network of a sandbox over time. With `follow=true` as server-sent events.",
      query: rest.MetricsQuery,
      status: 200,
      answer: rest.CapsuleMetrics,
      codes: ["host_unavailable", "agent_error"],
    },
    async ({ caller, id, query: { range, follow }, c }) => {
      const spanMs = rest.metricRanges[range] * 1_000;
      const read = async (afterSec: number) => {
        const startMs = Math.max(Date.now() - spanMs, spanMs > fineSec * 1_000 ? 0 : afterSec * 1_000);
        const { points } = await telemetry.metrics(caller, id, { startMs, endMs: 0 });
        return points.map(point).filter((one) => one.timestamp_unix > afterSec);
      };
      const points = await read(0);
      if (follow !== "true") return { sandbox_id: capsuleId(id), range, points } satisfies rest.CapsuleMetrics;
      const everyMs = spanMs > fineSec * 1_000 ? followEveryMs.coarse : followEveryMs.fine;
      return eventStream(followPoints(points, read, { everyMs, signal: c.req.raw.signal }));
    },
  );
}

/** The points there are, then those that come, until the client goes or the sandbox is gone. */
async function* followPoints(
  first: rest.MetricPoint[],
  read: (afterSec: number) => Promise<rest.MetricPoint[]>,
  { everyMs, signal }: { everyMs: number; signal: AbortSignal },
): AsyncGenerator<string, void> {
  let last = 0;
  for (let fresh: rest.MetricPoint[] | undefined = first; fresh; ) {
    yield fresh.length > 0 ? eventFrame("points", fresh) : keepAlive;
    last = fresh.at(-1)?.timestamp_unix ?? last;
    await Bun.sleep(everyMs);
    if (signal.aborted) return;
    fresh = await untilGone(read(last));
  }
  yield eventFrame("end", {});
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

/** Span of a list's small charts, and of one of their points. */
const loads = { spanMs: 300_000, bucketMs: 10_000 } as const;

/** `/v1/capsules/loads`: what a list of sandboxes draws beside each. Before the routes with an id in the same place. */
export function loadRoutes(app: App, telemetry: Telemetry): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/loads",
      summary: "Load of up to 100 sandboxes over the last five minutes, then every ten seconds, as server-sent events.",
      query: rest.LoadsQuery,
      status: 200,
      answer: "text/event-stream",
    },
    async ({ caller, query: { ids }, c }) => {
      const known = ids.flatMap((text) => parseSandboxId(text) ?? []);
      return eventStream(followLoads((id, fromMs) => loadOf(telemetry, caller, id, fromMs), known, c.req.raw.signal));
    },
  );
}

type ReadLoad = (id: SandboxId, fromMs: number) => Promise<rest.Load[]>;

async function* followLoads(read: ReadLoad, ids: SandboxId[], signal: AbortSignal): AsyncGenerator<string, void> {
  for (let fromMs = Date.now() - loads.spanMs; !signal.aborted; ) {
    const askedMs = Date.now();
    const found = await Promise.all(ids.map(async (id) => [capsuleId(id), await read(id, fromMs)] as const));
    const told = found.filter(([, points]) => points.length > 0);
    yield told.length > 0 ? eventFrame("loads", Object.fromEntries(told)) : keepAlive;
    fromMs = askedMs;
    await Bun.sleep(loads.bucketMs);
  }
}

/** The means of ten seconds each. One whose host is away, or that has ended, has none: it must not hide the others. */
async function loadOf(telemetry: Telemetry, caller: Caller, id: SandboxId, fromMs: number): Promise<rest.Load[]> {
  const answer = await telemetry.metrics(caller, id, { startMs: fromMs, endMs: 0 }).catch(() => undefined);
  const buckets = Map.groupBy(answer?.points ?? [], ({ timestampMs }) =>
    Math.floor(Number(timestampMs) / loads.bucketMs),
  );
  return [...buckets].map(([bucket, points]) => ({
    at: (bucket * loads.bucketMs) / 1_000,
    cpu_pct: mean(points.map(({ cpuPct }) => cpuPct)),
    mem_pct: mean(
      points.flatMap(({ guest }) => (guest ? [(Number(guest.memUsedBytes) / Number(guest.memTotalBytes)) * 100] : [])),
    ),
  }));
}

/** Rounded to what a small chart can show. */
const mean = (values: readonly number[]): number =>
  values.length === 0 ? 0 : Math.round((values.reduce((sum, value) => sum + value, 0) / values.length) * 10) / 10;
