import { type SandboxId, WrennError } from "@wrenn/contract";
import { hostError } from "../../hosts/host.ts";
import type { ParcelStore } from "../../store/fleet/parcels.ts";
import { isRunning, isStored } from "../../store/phase.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import { wrongState } from "../refusals.ts";
import type { PauseWish, Sandboxes } from "../sandboxes.ts";
import type { StoreKeys } from "./store-keys.ts";

/** Sandboxes that leave their hosts: paused, they go to the object store, where any fitting host resumes them from. */
export class Hibernation {
  /** Under way here, so that asking twice is one transfer. */
  readonly #going = new Map<SandboxId, Promise<SandboxRow>>();

  constructor(
    readonly sandboxes: Sandboxes,
    readonly parcels: ParcelStore,
    readonly keys: StoreKeys,
  ) {}

  /**
   * Moves a sandbox to the object store, pausing it if it runs; answers when its host holds nothing of it. One that is
   * there is left as it is. Throws `invalid_state` in any other state, and what its host throws.
   */
  pause(caller: Caller, id: SandboxId, wish: PauseWish = {}): Promise<SandboxRow> {
    const { tasks } = this.sandboxes;
    return tasks.run(async () => {
      const seen = await this.sandboxes.get(caller, id); // also for one that is under way: it must be the caller's
      const going = this.#going.get(id) ?? this.#hibernate(caller, seen, wish).finally(() => this.#going.delete(id));
      this.#going.set(id, going);
      return await going;
    });
  }

  async #hibernate(caller: Caller, seen: SandboxRow, wish: PauseWish): Promise<SandboxRow> {
    if (isStored(seen)) return seen;
    if (seen.mounts)
      throw new WrennError("invalid_request", "The sandbox has volumes mounted, which are on its host.", {
        remedy: "Pause it instead: its host keeps it.",
      });
    const row = isRunning(seen) ? await this.sandboxes.pause(caller, seen.id, wish) : seen;
    if (row.state !== "paused") throw wrongState(row);
    const { events } = this.sandboxes;
    return await events.told(caller, { kind: "capsule.hibernate", id: row.id }, () => this.#send(caller, row));
  }

  async #send(caller: Caller, row: SandboxRow): Promise<SandboxRow> {
    const { fleet, store, tasks } = this.sandboxes;
    const host = fleet.host(row.hostId);
    const request = { id: row.id, vaults: this.keys.of(row.teamId) };
    const { parcel } = await host.rpc
      .hibernateSandbox(request, fleet.options(caller, limits.hibernate))
      .catch((thrown) => {
        throw hostError(thrown);
      });
    if (!parcel?.store)
      throw new WrennError("unavailable", "The host's object store does not say what it is called.", {
        remedy: "Check WRENN_STORE of the host's wrenn-agent, then try again: what was sent is not sent again.",
      });
    const stored = await store.write(row, {
      ...{ parcel: parcel.id, storeId: parcel.store, moveClass: parcel.moveClass, parcelBytes: Number(parcel.bytes) },
      ...{ askedBy: caller.actor, diskUsedBytes: 0 },
    });
    if (!stored) {
      await this.parcels.discard({ teamId: row.teamId, storeId: parcel.store, parcel: parcel.id });
      throw wrongState((await store.find(row.id)) ?? row); // it was resumed or removed meanwhile
    }
    // Its watcher does it too, should this fail or its server end.
    tasks.start(async () => {
      await host.rpc.destroySandbox({ id: row.id, pausedRun: BigInt(row.run) }, fleet.options(caller, limits.destroy));
    });
    return stored;
  }
}
