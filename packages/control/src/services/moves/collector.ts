import type { Fleet, Member } from "../../hosts/fleet.ts";
import type { Log } from "../../log.ts";
import { Rounds } from "../../rounds.ts";
import type { HeldParcel, ParcelStore } from "../../store/fleet/parcels.ts";
import { limits } from "../limits.ts";
import type { StoreKeys } from "./store-keys.ts";

const atOnce = 50;

/** Removes from object stores what nobody needs, by way of any host that reaches the store. Every replica does. */
export class Collector implements AsyncDisposable {
  readonly #rounds: Rounds;

  constructor(
    readonly parcels: ParcelStore,
    readonly fleet: Fleet,
    readonly keys: StoreKeys,
    readonly log: Log,
    everyMs: number,
  ) {
    this.#rounds = new Rounds(
      everyMs,
      () => this.#look(),
      (err) => log.warn({ err }, "object stores were not tidied; tried again later"),
    );
  }

  /** Looks once; calls meanwhile share it. */
  look(): Promise<void> {
    return this.#rounds.run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
  }

  async #look(): Promise<void> {
    const there = this.fleet.members.filter(({ row }) => row.status === "online" && row.storeId !== "");
    const byStore = new Map(there.map((member) => [member.row.storeId, member]));
    const held = await this.parcels.hold([...byStore.keys()], atOnce);
    const groups = Map.groupBy(held, ({ storeId, teamId }) => `${storeId} ${teamId}`);
    for (const group of groups.values()) await this.#remove(byStore.get(group[0]!.storeId)!, group);
  }

  async #remove({ host }: Member, group: readonly HeldParcel[]): Promise<void> {
    const request = { parcels: group.map(({ parcel }) => parcel), vaults: this.keys.of(group[0]!.teamId) };
    await host.rpc.discardParcels(request, { timeoutMs: limits.destroy });
    await this.parcels.removed(group.map(({ id }) => id));
  }
}
