/** Every state a sandbox can be in, as clients read it in `status`. */
export const states = [
  "pending",
  "starting",
  "running",
  "pausing",
  "paused",
  "resuming",
  "stopping",
  "stopped",
  "missing",
  "error",
] as const;

/** One of {@link states}. */
export type State = (typeof states)[number];

/** What can happen to a sandbox. `lost`: its host is out of reach. `gone`: nothing of it is left. */
export const events = [
  "place",
  "ready",
  "pause",
  "paused",
  "resume",
  "rollback",
  "stop",
  "gone",
  "fail",
  "lost",
] as const;

/** One of {@link events}. */
export type Event = (typeof events)[number];

/** The life of a sandbox: the only table of arrows. What it does not list cannot happen. */
export const arrows = {
  pending: { place: "starting", stop: "stopped", gone: "stopped", fail: "error" },
  starting: { ready: "running", stop: "stopping", gone: "stopped", fail: "error", lost: "missing" },
  running: {
    pause: "pausing",
    rollback: "resuming",
    stop: "stopping",
    gone: "stopped",
    fail: "error",
    lost: "missing",
  },
  // ready: the pause was undone
  pausing: { paused: "paused", ready: "running", stop: "stopping", gone: "stopped", fail: "error", lost: "missing" },
  paused: { resume: "resuming", stop: "stopping", gone: "stopped", fail: "error" },
  // paused: the resume was undone; ready also when a roll back was
  resuming: { ready: "running", paused: "paused", stop: "stopping", gone: "stopped", fail: "error", lost: "missing" },
  stopping: { gone: "stopped", fail: "error", lost: "missing" },
  missing: { ready: "running", paused: "paused", stop: "stopping", gone: "stopped", fail: "error" },
  error: { stop: "stopping", gone: "stopped" },
  stopped: {},
} as const satisfies Record<State, Partial<Record<Event, State>>>;

/** The state after `event`, or `undefined` when `event` cannot happen in `from`. */
export function step(from: State, event: Event): State | undefined {
  return (arrows[from] as Partial<Record<Event, State>>)[event];
}

/** Whether nothing can happen any more. */
export const isFinal = (state: State): boolean => Object.keys(arrows[state]).length === 0;
