import { rest, WrennError } from "@wrenn/contract";
import { z } from "zod";
import type { UsageStore } from "../../store/fleet/usage.ts";
import { type App, endpoint } from "../endpoint.ts";

const dayMs = 86_400_000;
/** Spans are kept a little longer. */
const mostDays = 92;
const usualDays = 30;
const peakRange = "30d";

const StatsQuery = z.object({ range: z.enum(["5m", "1h", "6h", "24h", "30d"]).default("1h") });
const UsageQuery = z.object({ from: z.iso.date().optional(), to: z.iso.date().optional() });

/** `/v1/capsules/stats` and `/usage`: what a team has and had running (Wrenn REST API 8.3, 8.4). */
export function usageRoutes(app: App, usage: UsageStore): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/capsules/stats", status: 200, query: StatsQuery, answer: rest.CapsuleStats },
      summary: "How many sandboxes run and ran, with their processors and memory: now, at most, and over a range.",
    },
    async ({ caller, query }): Promise<rest.CapsuleStats> => {
      const series = (range: rest.CapsuleStats["range"]) => {
        const [spanned, bucket] = rest.statRanges[range as keyof typeof rest.statRanges];
        return usage.series(caller.team, bucket, spanned / bucket);
      };
      const [now, month] = await Promise.all([usage.now(caller.team), series(peakRange)]);
      const shown = query.range === peakRange ? month : await series(query.range);
      const most = (pick: (level: (typeof month)[number]) => number) => Math.max(0, ...month.map(pick));
      return {
        range: query.range,
        current: { running_count: now.running, vcpus_reserved: now.vcpus, memory_mb_reserved: now.memoryMib },
        peaks: {
          running_count: most(({ running }) => running),
          vcpus: most(({ vcpus }) => vcpus),
          memory_mb: most(({ memoryMib }) => memoryMib),
        },
        series: {
          labels: shown.map(({ at }) => at.toISOString()),
          running: shown.map(({ running }) => running),
          vcpus: shown.map(({ vcpus }) => vcpus),
          memory_mb: shown.map(({ memoryMib }) => memoryMib),
        },
      };
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/capsules/usage", status: 200, query: UsageQuery, answer: rest.CapsuleUsage },
      summary:
        "Minutes of processors and memory for each day (UTC), exact to the second; the last 30 days unless asked.",
    },
    async ({ caller, query }): Promise<rest.CapsuleUsage> => {
      const to = query.to ?? dateOf(Date.now());
      const from = query.from ?? dateOf(Date.parse(to) - (usualDays - 1) * dayMs);
      const days = (Date.parse(to) - Date.parse(from)) / dayMs + 1;
      if (days < 1 || days > mostDays)
        throw new WrennError("invalid_request", `From ${from} to ${to} is not 1 to ${mostDays} days.`, {
          remedy: "Ask for a range that ends when or after it begins, in several parts if it is longer.",
        });
      const found = await usage.days(caller.team, from, to);
      const round = (minutes: number) => Math.round(minutes * 10_000) / 10_000;
      const points = found.map(({ date, cpuMinutes, memoryMinutes }) => ({
        ...{ date, cpu_minutes: round(cpuMinutes), ram_mb_minutes: round(memoryMinutes) },
      }));
      return { from, to, points };
    },
  );
}

const dateOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
