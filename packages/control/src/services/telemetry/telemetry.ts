import { create } from "@bufbuild/protobuf";
import { hostagent, type SandboxId } from "@wrenn/contract";
import type { CallOptions, Fleet } from "../../hosts/fleet.ts";
import { type Host, hostError } from "../../hosts/host.ts";
import { isOver, isPaused, isStored } from "../../store/phase.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import { absent } from "../refusals.ts";
import type { Sandboxes } from "../sandboxes.ts";

/** A span of time, ms since 1970. */
export type Span = { startMs: number; endMs: number };

/** Which entries of a log: the first `limit` after a cursor, or the newest. */
export type Which = { after: number; limit: number; newest: boolean };

/** What hosts know of their sandboxes beside their state: load and log. Both are theirs to keep, for paused ones too. */
export class Telemetry {
  constructor(
    readonly sandboxes: Sandboxes,
    readonly fleet: Fleet,
  ) {}

  /** What happened in and around a sandbox. Throws `not_found` for one that is over. */
  async logs(caller: Caller, id: SandboxId, which: Which): Promise<hostagent.LogEntry[]> {
    const { after, limit, newest } = which;
    if (await this.#isAway(caller, id)) return [];
    const { entries } = await this.#ask(caller, id, (rpc, options) =>
      rpc.getSandboxLogs({ id, after: BigInt(after), limit, newest }, options),
    );
    return entries;
  }

  /** Load of a sandbox over a span. Throws `not_found` for one that is over. */
  async metrics(caller: Caller, id: SandboxId, span: Span): Promise<hostagent.GetSandboxMetricsResponse> {
    const request = { id, startMs: BigInt(Math.round(span.startMs)), endMs: BigInt(Math.round(span.endMs)) };
    if (await this.#isAway(caller, id)) return create(hostagent.GetSandboxMetricsResponseSchema);
    return this.#ask(caller, id, (rpc, options) => rpc.getSandboxMetrics(request, options));
  }

  /** In the object store a sandbox has neither: both begin anew with the host that it comes to. */
  async #isAway(caller: Caller, id: SandboxId): Promise<boolean> {
    const row = await this.sandboxes.get(caller, id);
    return isStored(row) && isPaused(row);
  }

  async #ask<T>(
    caller: Caller,
    id: SandboxId,
    call: (rpc: Host["rpc"], options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const row = await this.sandboxes.get(caller, id);
    if (isOver(row)) throw absent(id);
    try {
      return await call(this.fleet.host(row.hostId).rpc, this.fleet.options(caller, limits.quick));
    } catch (thrown) {
      throw hostError(thrown);
    }
  }
}
