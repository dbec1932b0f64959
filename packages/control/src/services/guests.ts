import { fromConnectError, type SandboxId, type State, WrennError } from "@wrenn/contract";
import type { Fleet } from "../hosts/fleet.ts";
import { type Guest, guestOf } from "../hosts/guest.ts";
import type { Host } from "../hosts/host.ts";
import { isDozing, isRunning } from "../store/phase.ts";
import type { SandboxStore } from "../store/sandboxes.ts";
import type { Terms } from "../store/schema/index.ts";
import type { Caller } from "./caller.ts";
import { absent, wrongState } from "./refusals.ts";
import type { Sandboxes } from "./sandboxes.ts";

/** How long another replica's change may go unseen here; the host refuses what is out of date in any case. */
export const routeMs = 1_000;
/** Routes remembered at once. */
const cacheSize = 20_000;

/** Where a sandbox is, and whose it is. `asleep` is the state of one that does not run and that traffic may wake. */
export type Route = {
  readonly team: string;
  readonly host: Host;
  readonly terms: Terms | null;
  readonly asleep?: State;
  readonly until: number;
};

/** Finds the guest agents of running sandboxes. */
export class Guests {
  readonly #routes = new Map<string, Route>();

  constructor(
    readonly sandboxes: Sandboxes,
    readonly fleet: Fleet,
    readonly store: SandboxStore,
  ) {
    store.onChange((id) => this.#routes.delete(id));
  }

  /** The host of a running sandbox of the caller's team. Throws `not_found` or `invalid_state`. */
  async locate(caller: Caller, id: SandboxId): Promise<Host> {
    return (await this.route(id, caller.team)).host;
  }

  /** Where a running sandbox is: of `team`, or of any. Throws `not_found` or `invalid_state`. */
  async route(id: SandboxId, team?: string): Promise<Route> {
    const route = await this.visit(id, team);
    if (route.asleep) throw wrongState({ id, state: route.asleep });
    return route;
  }

  /** As {@link route}, but also of a sandbox that traffic may wake. */
  async visit(id: SandboxId, team?: string): Promise<Route> {
    const known = this.#routes.get(id);
    if (known && (team ?? known.team) === known.team && known.until > Date.now()) return known;
    const row = await this.store.find(id);
    if (!row || (team ?? row.teamId) !== row.teamId) throw absent(id);
    const { terms } = row;
    const route = { team: row.teamId, host: this.fleet.host(row.hostId), terms };
    if (!isRunning(row)) {
      // Traffic is no reason to boot a machine that somebody switched off.
      if (!isDozing(row) || !terms?.autoResume || row.diskOnly) throw wrongState(row);
      return { ...route, asleep: row.state, until: 0 };
    }
    return this.#keep(id, { ...route, until: Date.now() + routeMs });
  }

  #keep(id: SandboxId, route: Route): Route {
    this.#routes.delete(id);
    if (this.#routes.size >= cacheSize) this.#routes.delete(this.#routes.keys().next().value!);
    this.#routes.set(id, route);
    return route;
  }

  /** A client of the guest agent, as `user` or the sandbox's default user. */
  async open(caller: Caller, id: SandboxId, user?: string): Promise<Guest> {
    return guestOf(await this.locate(caller, id), id, { user, requestId: caller.requestId });
  }
}

/** A failed call to a guest agent as the error a client is given; the agent's "unauthenticated" speaks of the user named. */
export function guestError(thrown: unknown): WrennError {
  const error = fromConnectError(thrown);
  if (error.code !== "unauthorized") return error;
  return new WrennError("invalid_request", error.message, { remedy: "Name a user of the sandbox.", cause: thrown });
}
