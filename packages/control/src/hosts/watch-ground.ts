import type { Timings } from "../config.ts";
import type { Log } from "../log.ts";
import type { HostStore } from "../store/fleet/hosts.ts";
import type { SandboxStore } from "../store/sandboxes.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import type { SnapshotStore } from "../store/snapshots.ts";
import type { Fleet } from "./fleet.ts";
import type { Unsettled } from "./unsettled.ts";

/** What the watcher of a host stands on, and its sweeper. */
export type WatchGround = {
  store: SandboxStore;
  hostStore: HostStore;
  snapshots: SnapshotStore;
  unsettled: Unsettled;
  timings: Readonly<Timings>;
  log: Log;
  fleet: Pick<Fleet, "giveUp" | "takeGivenUp">;
  /** Notes that a host was heard of just now. */
  seen(id: string): void;
  /** Carries out a deletion that was written down. */
  remove(row: SandboxRow): Promise<void>;
};
