import { arrows, type Event, events, hostagent, isFinal, type State, states, step } from "@wrenn/contract";
import type { Reported } from "../store/batches.ts";
import { isOver, isPaused, isStored } from "../store/phase.ts";
import type { SandboxRow } from "../store/schema/index.ts";

const { SandboxState } = hostagent;

const stateOf: Record<hostagent.SandboxState, State | undefined> = {
  [SandboxState.UNSPECIFIED]: undefined,
  [SandboxState.STARTING]: "starting",
  [SandboxState.RUNNING]: "running",
  [SandboxState.PAUSING]: "pausing",
  [SandboxState.PAUSED]: "paused",
  [SandboxState.RESUMING]: "resuming",
  [SandboxState.STOPPING]: "stopping",
  [SandboxState.STOPPED]: "stopped",
  [SandboxState.ERROR]: "error",
};

/** What a host may skip on its way: every event but its own loss. */
const hostEvents = events.filter((event): event is Exclude<Event, "lost"> => event !== "lost");

/** For each state, those that arrows lead to: a host's report may stand for several events at once. */
const reachable = Object.fromEntries(states.map((state) => [state, closure(state)])) as Record<State, Set<State>>;

function closure(start: State): Set<State> {
  const found = new Set<State>([start]);
  for (const from of found)
    for (const event of hostEvents) {
      const to = event in arrows[from] ? step(from, event) : undefined;
      if (to) found.add(to);
    }
  return found;
}

/**
 * What a host's word about a sandbox changes in its row; `undefined` when it changes nothing.
 * Reports of an earlier incarnation, and those the row already knows, are ignored. `asked` means that the report
 * answers a question asked after the row was read, so it settles an action that nobody carries on any more.
 */
export function reflect(row: SandboxRow, report: hostagent.Sandbox, asked = false): Reported | undefined {
  const state = stateOf[report.state];
  if (state === undefined || isFinal(row.state)) return undefined;
  // The store has it: what hosts do to what is left of it says nothing, but that one runs it after all.
  if (isStored(row) && isPaused(row) && state !== "running") return undefined;
  const run = Number(report.run);
  const version = Number(report.version);
  const certain = asked || row.state === "missing";
  if (run < row.run && !asked) return undefined;
  const newer = run > row.run || version > row.version;
  if (!newer && !(certain && version >= row.version)) return undefined;
  const next = reachable[row.state].has(state) ? state : row.state;
  if (next === row.state && isOver(row)) return undefined;
  return { ...facts(report), run, version, state: next };
}

/** Whether `row` is over while its host still holds the sandbox; one that never ran holds nothing of its user's. */
export function isOrphan(row: SandboxRow, report: hostagent.Sandbox): boolean {
  const state = stateOf[report.state];
  if (state === undefined || state === "stopped" || state === "stopping") return false;
  return isFinal(row.state) || (row.state === "error" && row.startedAt === null);
}

/** Whether a host still has a sandbox that is in the object store, and nobody brings back. */
export const isLeftBehind = (row: SandboxRow, report: hostagent.Sandbox): boolean =>
  isStored(row) && isPaused(row) && isPausedReport(report);

/** Whether a host says that a sandbox is paused. */
export const isPausedReport = ({ state }: hostagent.Sandbox): boolean => state === SandboxState.PAUSED;

const time = (ms: bigint): Date | null => (ms > 0n ? new Date(Number(ms)) : null);

function facts(report: hostagent.Sandbox): Omit<Reported, "run" | "version" | "state"> {
  return {
    vcpus: report.vcpus,
    memoryMib: report.memoryMib,
    diskMib: report.diskMib,
    diskUsedBytes: Number(report.diskUsedBytes),
    diskOnly: report.diskOnly,
    timeoutSec: report.timeoutSec,
    guestIp: report.guestIp,
    hostIp: report.hostIp,
    versions: { ...report.versions },
    reason: report.reason,
    origin: report.origin,
    startedAt: time(report.startedAtMs),
    lastActiveAt: time(report.lastActiveAtMs),
  };
}
