import { envdVersion } from "@wrenn/contract";
import type { Shown } from "../../services/builds/templates.ts";
import type { BuildRow, BuildStatus, LogRow, LogStream } from "../../store/schema/index.ts";

/** How this dialect calls a status. */
const statuses = {
  waiting: "waiting",
  pending: "waiting",
  running: "building",
  success: "ready",
  failed: "error",
  cancelled: "error",
} as const satisfies Record<BuildStatus, string>;

/** How much a log entry matters, from the least. */
export const logLevels = ["debug", "info", "warn", "error"] as const;
type LogLevel = (typeof logLevels)[number];

const levels: Readonly<Record<LogStream, LogLevel>> = {
  ...{ step: "info", cached: "info", done: "debug", stdout: "info", stderr: "info", info: "info" },
  ...{ warn: "warn", error: "error" },
};

const entry = ({ at, stream, message, step }: LogRow) => ({
  timestamp: at.toISOString(),
  level: levels[stream],
  message: stream === "cached" ? `CACHED ${message}` : message,
  step: String(step),
});

/** A build with a page of its log. `reason.step` picks the line of the author's program. */
export function buildStatus(row: BuildRow, lines: readonly LogRow[]) {
  const { error } = row;
  const step = error?.step === undefined ? (error?.at ?? "base") : String(error.step);
  return {
    templateID: row.templateId,
    buildID: row.id,
    status: statuses[row.status],
    logs: lines.map(({ message }) => message),
    logEntries: lines.map(entry),
    ...(error && { reason: { message: withoutLine(error.message), step, logEntries: [] } }),
  };
}

/** Authors of this dialect write no lines, and its clients compare the text. */
const withoutLine = (message: string): string => message.replace(/^line \d+: /, "");

/** A page of a build's log alone, in either order. */
export const buildLogs = (lines: readonly LogRow[]) => ({ logs: lines.map(entry) });

/** Where lines come from that matter at least as much as `least`. */
export const streamsFrom = (least: LogLevel): LogStream[] =>
  (Object.keys(levels) as LogStream[]).filter(
    (stream) => logLevels.indexOf(levels[stream]) >= logLevels.indexOf(least),
  );

/** A template with a page of its builds. */
export function templateWithBuilds(shown: Shown, rows: readonly BuildRow[]) {
  const { templateID, public: isPublic, aliases, names, createdAt, updatedAt } = listedTemplate(shown);
  const builds = rows.map((row) => ({
    ...{ buildID: row.id, status: statuses[row.status], cpuCount: row.vcpus, memoryMB: row.memoryMib, envdVersion },
    ...{ createdAt: row.createdAt.toISOString(), updatedAt: (row.completedAt ?? row.createdAt).toISOString() },
    ...(row.completedAt && { finishedAt: row.completedAt.toISOString() }),
  }));
  const uses = { lastSpawnedAt: null, spawnCount: 0 };
  return { templateID, public: isPublic, aliases, names, createdAt, updatedAt, ...uses, builds };
}

/** A template as lists show it. */
export function listedTemplate({ template, current }: Shown) {
  const { id, name, platform, createdAt } = template;
  const at = (current?.completedAt ?? createdAt).toISOString();
  return {
    ...{ templateID: id, public: platform, aliases: [name], names: [name], createdAt: createdAt.toISOString() },
    ...{ buildID: current?.id ?? "", cpuCount: current?.vcpus ?? 0, memoryMB: current?.memoryMib ?? 0, diskSizeMB: 0 },
    ...{ updatedAt: at, createdBy: null, lastSpawnedAt: null, spawnCount: 0, buildCount: 1, envdVersion },
    buildStatus: current ? statuses[current.status] : "waiting",
  };
}
