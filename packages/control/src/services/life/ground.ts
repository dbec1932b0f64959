import type { SandboxId } from "@wrenn/contract";
import type { Fleet } from "../../hosts/fleet.ts";
import type { Log } from "../../log.ts";
import type { OnceStore } from "../../store/once.ts";
import type { SandboxStore } from "../../store/sandboxes.ts";
import type { SnapshotStore } from "../../store/snapshots.ts";
import type { Versions } from "../builds/versions.ts";
import type { Events } from "../events.ts";
import type { StoreKeys } from "../moves/store-keys.ts";
import type { Policies } from "../network/policies.ts";
import type { Quotas } from "../people/quotas.ts";
import type { Tasks } from "../tasks.ts";
import type { Mounting } from "../volumes/mounting.ts";

/** What the life of sandboxes stands on. */
export type LifeGround = {
  readonly store: SandboxStore;
  readonly once: OnceStore;
  readonly snapshots: SnapshotStore;
  readonly versions: Versions;
  readonly fleet: Fleet;
  readonly tasks: Tasks;
  readonly events: Events;
  readonly log: Log;
  readonly quotas: Pick<Quotas, "admit" | "timeoutFor">;
  readonly policies: Policies;
  readonly mounting: Mounting;
  /** What opens the object store for a host that a sandbox comes to. */
  readonly storeKeys: StoreKeys;
  /** What the guest agent of a sandbox asks its callers for. */
  readonly agentToken: (id: SandboxId) => string;
};
