import { z } from "zod";

/** Spans that `GET /v1/capsules/{id}/metrics` takes, in seconds. */
export const metricRanges = {
  "5m": 300,
  "10m": 600,
  "1h": 3_600,
  "2h": 7_200,
  "6h": 21_600,
  "12h": 43_200,
  "24h": 86_400,
} as const;

/** Query of `GET /v1/capsules/{id}/metrics`. */
export const MetricsQuery = z.object({
  range: z.enum(Object.keys(metricRanges) as [keyof typeof metricRanges]).default("10m"),
  follow: z
    .enum(["true", "false"])
    .default("false")
    .meta({ description: "`true`: server-sent events, `points` with those there are, then with each new ones." }),
});

/** Query of `GET /v1/capsules/loads`. */
export const LoadsQuery = z.object({
  ids: z
    .string()
    .min(1)
    .transform((text) => [...new Set(text.split(","))])
    .pipe(z.array(z.string()).max(100))
    .meta({ description: "Ids of sandboxes, separated by commas." }),
});

/** Load of a sandbox over ten seconds, in percent of what it has. */
export type Load = { at: number; cpu_pct: number; mem_pct: number };

/** Load of a sandbox at one instant. What only the guest knows is absent until it was asked. */
export const MetricPoint = z
  .object({
    timestamp_unix: z.int().meta({ description: "Seconds since 1970." }),
    cpu_pct: z.number().meta({ description: "Share of its virtual processors, 0 to 100." }),
    mem_bytes: z.int().meta({ description: "Memory that its machine holds on the host." }),
    disk_bytes: z.int().meta({ description: "What it occupies on the host's disk beyond its template." }),
    mem_used_bytes: z.int().optional().meta({ description: "Memory in use inside the sandbox." }),
    mem_cache_bytes: z.int().optional(),
    mem_total_bytes: z.int().optional(),
    disk_used_bytes: z.int().optional().meta({ description: "Disk in use inside the sandbox." }),
    disk_total_bytes: z.int().optional(),
    net_rx_bytes: z.int().optional().meta({ description: "Received since its template booted." }),
    net_tx_bytes: z.int().optional(),
  })
  .meta({ id: "MetricPoint" });
export type MetricPoint = z.infer<typeof MetricPoint>;

/** Answer of `GET /v1/capsules/{id}/metrics`, oldest point first. */
export const CapsuleMetrics = z
  .object({ sandbox_id: z.string(), range: z.string(), points: z.array(MetricPoint) })
  .meta({ id: "CapsuleMetrics" });
export type CapsuleMetrics = z.infer<typeof CapsuleMetrics>;

/** Query of `GET /v1/capsules/{id}/logs`. */
export const LogsQuery = z.object({
  cursor: z.coerce
    .number()
    .int()
    .min(0)
    .optional()
    .meta({ description: "Entries after the one with this cursor; absent: the newest ones." }),
  limit: z.coerce.number().int().min(1).max(1_000).default(200),
  level: z.enum(["debug", "info", "warn", "error"]).default("info").meta({ description: "At least this grave." }),
  follow: z
    .enum(["true", "false"])
    .default("false")
    .meta({ description: "`true`: server-sent events, one `log` each, until the sandbox is gone." }),
});

/** One entry of a sandbox's log. */
export const LogEntry = z
  .object({
    cursor: z.int(),
    timestamp: z.string(),
    level: z.enum(["debug", "info", "warn", "error"]),
    source: z
      .enum(["host", "process", "console"])
      .meta({ description: "Its life, the commands in it, or what its kernel prints." }),
    message: z.string(),
    fields: z.record(z.string(), z.string()).optional(),
  })
  .meta({ id: "LogEntry" });
export type LogEntry = z.infer<typeof LogEntry>;

/** Answer of `GET /v1/capsules/{id}/logs`, oldest entry first. `next_cursor` leads on, also when nothing is new. */
export const CapsuleLogs = z
  .object({ sandbox_id: z.string(), entries: z.array(LogEntry), next_cursor: z.int() })
  .meta({ id: "CapsuleLogs" });
export type CapsuleLogs = z.infer<typeof CapsuleLogs>;
