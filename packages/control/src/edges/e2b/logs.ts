import type { hostagent } from "@wrenn/contract";
import { z } from "zod";
import type { Leases } from "../../services/e2b/leases.ts";
import type { Telemetry } from "../../services/telemetry/telemetry.ts";
import { type Routes, route, sandboxOf } from "./route.ts";

const levels = ["debug", "info", "warn", "error"] as const;
/** Most entries of one answer (E2B protocol, section 3). */
const maxEntries = 1_000;

const limit = z.coerce.number().int().min(0).max(maxEntries).default(maxEntries);
const ms = z.coerce.number().int().min(0).optional();
const LogsQuery = z.object({ start: ms, limit });
const LogsQueryV2 = z.object({
  cursor: ms,
  limit,
  direction: z.enum(["forward", "backward"]).default("forward"),
  level: z.enum(levels).default("debug"),
  search: z.string().max(256).default(""),
});

/** The log of a sandbox: its life, its commands, its console. Cursors are times, milliseconds. */
export function logRoutes(routes: Routes, leases: Leases, telemetry: Telemetry): void {
  route(routes, "GET /sandboxes/:id/logs", { query: LogsQuery }, async ({ caller, query, c }) => {
    const { id } = await leases.get(caller, sandboxOf(c));
    const found = await telemetry.logs(caller, id, { after: 0, limit: maxEntries, newest: true });
    const entries = found
      .map(present)
      .filter(({ at }) => at >= (query.start ?? 0))
      .slice(0, query.limit);
    return {
      logs: entries.map(({ shown }) => ({ timestamp: shown.timestamp, line: lineOf(shown) })),
      logEntries: entries.map(({ shown }) => shown),
    };
  });
  route(routes, "GET /v2/sandboxes/:id/logs", { query: LogsQueryV2 }, async ({ caller, query, c }) => {
    const { id } = await leases.get(caller, sandboxOf(c));
    const found = await telemetry.logs(caller, id, { after: 0, limit: maxEntries, newest: true });
    const backward = query.direction === "backward";
    const isBeyond = (at: number) => query.cursor === undefined || (backward ? at <= query.cursor : at >= query.cursor);
    const entries = found
      .map(present)
      .filter(({ at, shown }) => isBeyond(at) && isWanted(shown, query))
      .map(({ shown }) => shown);
    return { logs: (backward ? entries.reverse() : entries).slice(0, query.limit) };
  });
}

type Shown = ReturnType<typeof present>["shown"];

/** A line of the first version is a record as JSON, which the dialect's command line reads; `logger` names who logged it. */
const lineOf = ({ level, message, fields }: Shown): string =>
  JSON.stringify({ ...fields, logger: fields.source, level, message });

const isWanted = ({ level, message }: Shown, wanted: z.output<typeof LogsQueryV2>): boolean =>
  levels.indexOf(level) >= levels.indexOf(wanted.level) && message.includes(wanted.search);

function present({ timestampMs, level, message, source, fields }: hostagent.LogEntry) {
  const at = Number(timestampMs);
  const known = levels.find((one) => one === level) ?? "info";
  return { at, shown: { timestamp: new Date(at).toISOString(), level: known, message, fields: { ...fields, source } } };
}
