import type { hostagent, SandboxId } from "@wrenn/contract";
import type { Fleet } from "../../hosts/fleet.ts";
import { hostError } from "../../hosts/host.ts";
import { isOver } from "../../store/phase.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import { absent } from "../refusals.ts";
import type { Sandboxes } from "../sandboxes.ts";

/** A span of time, ms since 1970. */
export type Span = { startMs: number; endMs: number };

/** What hosts know of their sandboxes beside their state: load. It is theirs to keep, for paused ones too. */
export class Telemetry {
  constructor(
    readonly sandboxes: Sandboxes,
    readonly fleet: Fleet,
  ) {}

  /** Load of a sandbox over a span. Throws `not_found` for one that is over. */
  async metrics(caller: Caller, id: SandboxId, span: Span): Promise<hostagent.GetSandboxMetricsResponse> {
    const row = await this.sandboxes.get(caller, id);
    if (isOver(row)) throw absent(id);
    const { rpc } = this.fleet.host(row.hostId);
    const request = { id, startMs: BigInt(Math.round(span.startMs)), endMs: BigInt(Math.round(span.endMs)) };
    try {
      return await rpc.getSandboxMetrics(request, this.fleet.options(caller, limits.quick));
    } catch (thrown) {
      throw hostError(thrown);
    }
  }
}
