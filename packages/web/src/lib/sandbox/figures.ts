import type { SandboxInfo, WrennEvent } from "wrenn";

const minuteMs = 60_000;
const minutes = 60;
/** A sandbox that was resumed has started later than it was created, by more than any create takes. */
const longestStartMs = 120_000;

/** The fleet in numbers. */
export type Figures = {
  running: number;
  paused: number;
  vcpus: number;
  memoryMiB: number;
  /** Creates in each of the last 60 minutes, oldest first. */
  perMinute: number[];
  lastHour: number;
  /** Milliseconds from the request to a sandbox that takes commands. */
  p50: number | undefined;
  p95: number | undefined;
  samples: number;
};

/** Counts what is known. `at` is the begin of the running minute. */
export function fleetFigures(sandboxes: readonly SandboxInfo[], events: readonly WrennEvent[], at: number): Figures {
  const running = sandboxes.filter(({ status }) => status === "running");
  const perMinute = new Array<number>(minutes).fill(0);
  const created = new Map(sandboxes.map(({ id, createdAt }) => [id, createdAt.getTime()]));
  // Those that have ended since are in no list any more, but their creates were told.
  for (const { kind, resource, at: when } of events)
    if (kind === "capsule.create" && !created.has(resource.id)) created.set(resource.id, when.getTime());
  for (const time of created.values()) {
    const ago = Math.floor((at + minuteMs - time) / minuteMs);
    if (ago >= 0 && ago < minutes) perMinute[minutes - 1 - ago]!++;
  }
  const waits = sandboxes
    .flatMap(({ createdAt, startedAt }) => (startedAt ? [startedAt.getTime() - createdAt.getTime()] : []))
    .filter((ms) => ms > 0 && ms < longestStartMs)
    .sort((a, b) => a - b);
  return {
    running: running.length,
    paused: sandboxes.filter(({ status }) => status === "paused").length,
    vcpus: running.reduce((sum, { vcpus }) => sum + vcpus, 0),
    memoryMiB: running.reduce((sum, { memoryMiB }) => sum + memoryMiB, 0),
    perMinute,
    lastHour: perMinute.reduce((sum, count) => sum + count, 0),
    p50: quantile(waits, 0.5),
    p95: quantile(waits, 0.95),
    samples: waits.length,
  };
}

const quantile = (sorted: readonly number[], q: number): number | undefined =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
