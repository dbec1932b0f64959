import { type Event, type hostagent, type SandboxId, step } from "@wrenn/contract";
import { type CallOptions, full } from "../../hosts/fleet.ts";
import type { Host } from "../../hosts/host.ts";
import { isPaused, isStored } from "../../store/phase.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import type { Rendered } from "../network/placeholders.ts";
import { isHibernated, wrongState } from "../refusals.ts";
import { elsewhere } from "./creation.ts";
import { renewal } from "./ends.ts";
import type { Outcomes } from "./outcomes.ts";

/** Until when a resumed sandbox lives, if it has an end, and whether it boots although its memory was kept. */
export type ResumeWish = { endAt?: Date | undefined; diskOnly?: boolean | undefined };

type Request = { id: SandboxId; run: bigint; network: Rendered | undefined };
type Restart = (host: Host, request: Request, options: CallOptions) => Promise<Reported>;
type Reported = { sandbox?: hostagent.Sandbox | undefined };

/** Failures of a return from the object store after which another host may do better. */
const elsewhereToo: ReadonlySet<string> = new Set([
  ...elsewhere,
  "no_hosts_available",
  "agent_error",
  "conflict",
  "unavailable",
]);

/** How a sandbox runs again, as its next incarnation: where it was paused, from the object store, or back in time. */
export class Returns {
  constructor(readonly outcomes: Outcomes) {}

  get #ground() {
    return this.outcomes.ground;
  }

  /** Runs a paused sandbox again. Throws `invalid_state` unless it is paused. */
  async resume(caller: Caller, id: SandboxId, { endAt, diskOnly = false }: ResumeWish): Promise<SandboxRow> {
    const seen = await this.outcomes.get(caller, id);
    const vaults = this.#ground.storeKeys.of(seen.teamId);
    const wish = { diskOnly, ...(isStored(seen) && { parcel: seen.parcel, vaults }) };
    const resume: Restart = (host, request, options) => host.rpc.resumeSandbox({ ...request, ...wish }, options);
    return await this.#restart(caller, { ...seen, ...renewal(seen, endAt) }, "resume", resume);
  }

  /** Puts a running or paused sandbox back to a snapshot of its own line. Throws `invalid_state` for one in the store. */
  async rollback(caller: Caller, id: SandboxId, snapshot: string): Promise<SandboxRow> {
    const found = await this.outcomes.get(caller, id);
    if (isStored(found)) throw isHibernated(found);
    const seen = { ...found, ...renewal(found) };
    const rollback: Restart = (host, request, options) => host.rpc.rollbackSandbox({ ...request, snapshot }, options);
    return await this.#restart(caller, seen, step(seen.state, "rollback") ? "rollback" : "resume", rollback);
  }

  async #restart(caller: Caller, seen: SandboxRow, event: Event, call: Restart): Promise<SandboxRow> {
    if (!step(seen.state, event)) throw wrongState(seen);
    const { fleet, events, policies } = this.#ground;
    const places = isStored(seen) ? fleet.places(seen) : [fleet.host(seen.hostId).id];
    let row = await this.#placed(caller, seen, event, places);
    return await events.told(caller, { kind: "capsule.resume", id: row.id }, async () => {
      for (;;) {
        const host = fleet.host(row.hostId);
        try {
          const request = { id: row.id, run: BigInt(row.run), network: await policies.wire(row) };
          const limit = isStored(row) ? limits.hibernate : limits.resume;
          const { sandbox } = await call(host, request, fleet.options(caller, limit));
          return await this.outcomes.reached(row, sandbox!);
        } catch (thrown) {
          const error = await this.outcomes.settle(caller, host, row, thrown);
          if (!isStored(row) || places.length === 0 || !elsewhereToo.has(error.code)) throw error;
          const now = await this.outcomes.get(caller, row.id);
          if (!isStored(now) || !isPaused(now)) throw error;
          row = await this.#placed(caller, { ...now, endAt: seen.endAt }, event, places);
        }
      }
    });
  }

  /** The row as its next incarnation, on the first of `places` that has room; those that were tried are taken out. */
  async #placed(caller: Caller, seen: SandboxRow, event: Event, places: string[]): Promise<SandboxRow> {
    const { store } = this.#ground;
    const change = { run: seen.run + 1, endAt: seen.endAt, askedBy: caller.actor };
    for (let hostId = places.shift(); hostId !== undefined; hostId = places.shift()) {
      const row = await store.advance(seen, event, { ...change, hostId });
      if (row) return row;
      // Only a lack of room keeps the row of a paused sandbox as it was.
      const now = (await store.find(seen.id)) ?? seen;
      if (now.state !== seen.state || now.run !== seen.run) throw wrongState(now);
    }
    throw full(seen.memoryMib);
  }
}
