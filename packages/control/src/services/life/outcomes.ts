import { type Event, type hostagent, type SandboxId, WrennError } from "@wrenn/contract";
import type { CallOptions } from "../../hosts/fleet.ts";
import { type Host, hostError } from "../../hosts/host.ts";
import { record } from "../../hosts/reports.ts";
import { isOver, isStored } from "../../store/phase.ts";
import type { Change, Seen } from "../../store/sandboxes.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import { absent, wrongState } from "../refusals.ts";
import type { LifeGround } from "./ground.ts";

/** What becomes of a sandbox's row: by an intent, by what its host answers, and by what it does not. */
export class Outcomes {
  constructor(readonly ground: LifeGround) {}

  /** The sandbox, if it is the team's. Throws `not_found`. */
  async get(caller: Caller, id: SandboxId): Promise<SandboxRow> {
    const row = await this.ground.store.find(id);
    if (row?.teamId !== caller.team) throw absent(id);
    return row;
  }

  /** Takes an arrow, or says in which state the sandbox is instead. */
  async advance(row: SandboxRow & Seen, event: Event, change: Change = {}): Promise<SandboxRow> {
    const next = await this.ground.store.advance(row, event, change);
    if (next) return next;
    throw wrongState((await this.ground.store.find(row.id)) ?? row);
  }

  /** Records the host's answer. What overtook this action meanwhile shows in the row; only an end of the sandbox is an error. */
  async reached(seen: SandboxRow, report: hostagent.Sandbox): Promise<SandboxRow> {
    const row = (await record(this.ground.store, report, { host: seen.hostId, seen })) ?? seen;
    if (isOver(row)) throw wrongState(row);
    return row;
  }

  /** After a failed create: the row says why, and whatever the host may have made is removed. */
  async giveUp(caller: Caller, host: Host, row: SandboxRow, thrown: unknown): Promise<WrennError> {
    const error = hostError(thrown);
    await this.ground.store.advance(row, "fail", { reason: error.message });
    this.clear(caller, host, row.id);
    return error;
  }

  /** Removes what a host may have made; when it is away, its watcher does when it is back. */
  clear(caller: Caller, host: Host, id: SandboxId): void {
    this.ground.tasks.start(async () => {
      await host.rpc.destroySandbox({ id }, this.ground.fleet.options(caller, limits.destroy));
    });
  }

  /** After a failed pause or resume: the host knows what is true now; if it cannot be asked, its sweeper asks as soon as it is back. */
  async settle(caller: Caller, host: Host, row: SandboxRow, thrown: unknown): Promise<WrennError> {
    const { store, fleet, log } = this.ground;
    const error = hostError(thrown);
    try {
      const { sandbox } = await host.rpc.getSandbox({ id: row.id }, fleet.options(caller, limits.quick));
      await record(store, sandbox!, { host: host.id, asked: row });
    } catch (cause) {
      // What is in the object store is there whatever becomes of its way back; a host that brings it yet is overruled.
      if (isStored(row)) await store.advance(row, "paused", { reason: error.message });
      else if (hostError(cause).code === "not_found") await store.advance(row, "gone", { reason: "host_lost_it" });
      else {
        log.warn({ err: cause, sandbox: row.id, requestId: caller.requestId }, "the state is settled later");
        fleet.giveUp(row);
      }
    }
    return error;
  }

  /** Asks the sandbox's host something that changes no state. Throws what the host answers. */
  async ask<T>(caller: Caller, row: SandboxRow, call: (host: Host, options: CallOptions) => Promise<T>): Promise<T> {
    const { fleet } = this.ground;
    try {
      return await call(fleet.host(row.hostId), fleet.options(caller, limits.quick));
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  /** Carries out a deletion that has been written down. */
  async remove(row: SandboxRow, options: Partial<CallOptions>): Promise<void> {
    const { store, fleet } = this.ground;
    // What a host may have of it is removed when the host is heard: no row will want it.
    if (isStored(row)) return void (await store.advance(row, "gone", { reason: "" }));
    try {
      await fleet.host(row.hostId).rpc.destroySandbox({ id: row.id }, options);
    } catch (thrown) {
      const error = hostError(thrown);
      const remedy =
        "The deletion is noted and is carried out as soon as the host answers; it may also be asked for again.";
      throw new WrennError(error.code, error.message, { remedy, details: error.details, cause: thrown });
    }
    await store.advance(row, "gone", { reason: "" });
  }
}
