import { createHmac } from "node:crypto";
import { capsuleId, type rest, type SandboxId, WrennError } from "@wrenn/contract";
import { capacityOf } from "../../hosts/placement.ts";
import { tunnelScheme } from "../../hosts/tunnels.ts";
import type { DrainRow } from "../../store/fleet/drains.ts";
import type { HostStore, LoadedHost } from "../../store/fleet/hosts.ts";
import type { HostTokenStore, TokenPair } from "../../store/fleet/tokens.ts";
import type { HostMode } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import type { Drains } from "../moves/drains.ts";
import type { Sandboxes } from "../sandboxes.ts";
import type { Authority, Identity } from "./authority.ts";

/** What the service stands on. */
export type HostsGround = {
  store: HostStore;
  tokens: HostTokenStore;
  authority: Authority;
  /** What the secrets that replicas show to agents are made from. */
  agentSecret: Buffer;
  sandboxes: Sandboxes;
  drains: Drains;
  memoryOvercommit: number;
  /** The API key that was given to the server at start: it administers an installation that has no people yet. */
  operatorKey: string | undefined;
};

/** A host's agent as it is handed its identity. */
export type Registered = { host: LoadedHost; pair: TokenPair; identity: Identity; agentToken: string; ca: string };

/** What a deletion of a host ends: sandboxes, and snapshots by name, which no drain takes away. */
export type Ending = { host: LoadedHost; sandboxes: string[]; snapshots: string[]; canMove: boolean };

/** A host that is emptied, and how far that has come. */
export type Drained = { host: LoadedHost; drain: DrainRow };

/** The machines of an installation: who may join, what they are wanted for, and their end. */
export class Hosts {
  constructor(readonly ground: HostsGround) {}

  /** A new host and its registration token. Regular hosts are the operator's, BYOC hosts their team's too. */
  async create(caller: Caller, wanted: rest.CreateHost): Promise<{ host: LoadedHost; token: string }> {
    const { store, tokens } = this.ground;
    const teamId = wanted.type === "byoc" ? (wanted.team_id ?? caller.team) : null;
    this.#needRight(caller, teamId);
    const made = await store.insert({
      ...{ type: wanted.type, teamId, createdBy: caller.actor.id },
      ...{ provider: wanted.provider ?? "", zone: wanted.availability_zone ?? "" },
    });
    if (!made)
      throw new WrennError("invalid_request", "There is no such team.", {
        remedy: "Leave team_id out for the caller's own; `GET /v1/admin/teams` lists the teams.",
        details: { field: "team_id" },
      });
    return { host: (await store.find(made.id))!, token: await tokens.registration(made.id) };
  }

  /** A new registration token of a host that has not registered. */
  async token(caller: Caller, id: string): Promise<{ host: LoadedHost; token: string }> {
    const host = await this.owned(caller, id);
    if (host.address !== "")
      throw new WrennError("invalid_request", "The host has registered already.", {
        remedy: "Delete it and create another to have a new machine take its place.",
      });
    return { host, token: await this.ground.tokens.registration(id) };
  }

  /** Gives a machine its identity. Throws `unauthorized` for a token that is unknown, used or older than an hour. */
  async register(wanted: rest.RegisterHost): Promise<Registered> {
    const { tokens, authority, store } = this.ground;
    const pending = await tokens.pending(wanted.token);
    if (!pending) throw badToken();
    const address = wanted.address === undefined ? tunnelScheme + pending : `https://${wanted.address}`;
    const identity = await authority.host(pending, placeOf(address));
    const machine = {
      ...{ address, arch: wanted.arch, cpuCores: wanted.cpu_cores },
      ...{ memoryMib: wanted.memory_mb, diskMib: wanted.disk_gb * 1024 },
      capacityMib: capacityOf(wanted.memory_mb, this.ground.memoryOvercommit),
      ...{ certFingerprint: identity.fingerprint, certExpiresAt: identity.expiresAt },
    };
    const taken = (await store.all()).find((host) => host.address === machine.address && host.id !== pending);
    if (taken)
      throw new WrennError("conflict", `Another host is registered at ${wanted.address}.`, {
        remedy: `Delete the host ${taken.id} first, or register this one with its own address.`,
      });
    const done = await tokens.register(wanted.token, machine);
    if (!done) throw badToken();
    return await this.#identity(done.hostId, done.pair, identity);
  }

  /** The next identity of a registered host; the refresh token is used up. Throws `unauthorized`. */
  async refresh(refreshToken: string): Promise<Registered> {
    const { tokens, store, authority } = this.ground;
    const id = await tokens.refreshing(refreshToken);
    const host = id && (await store.find(id));
    if (!host) throw badToken();
    const identity = await authority.host(host.id, placeOf(host.address));
    const { fingerprint: certFingerprint, expiresAt: certExpiresAt } = identity;
    const pair = await tokens.refresh(refreshToken, { certFingerprint, certExpiresAt });
    if (!pair) throw badToken();
    return await this.#identity(host.id, pair, identity);
  }

  /** Notes that a host lives. Throws `unauthorized`, `forbidden` for another's token, `not_found` for one deleted. */
  async heartbeat(id: string, token: string | undefined): Promise<void> {
    const own = token && (await this.ground.tokens.heartbeat(token));
    if (!own) throw badToken();
    if (own !== id) throw new WrennError("forbidden", "The token is another host's.");
    if (!(await this.ground.store.find(id))) throw absent(id);
  }

  /**
   * Lets a host that dials in have a line. Throws what {@link heartbeat} does, and `conflict` for a host that has an
   * address of its own.
   */
  async dialled(id: string, token: string | undefined): Promise<void> {
    await this.heartbeat(id, token);
    const host = await this.ground.store.find(id);
    if (host?.address.startsWith(tunnelScheme)) return;
    throw new WrennError("conflict", "The host was registered with an address, at which it is reached.", {
      remedy: "Register it as a new host, with --dial in place of --address.",
    });
  }

  /** Every host that concerns the caller, oldest first. */
  async list(caller: Caller): Promise<LoadedHost[]> {
    const all = await this.ground.store.all();
    return this.isOperator(caller) ? all : all.filter(({ teamId }) => teamId === caller.team);
  }

  /** A host that concerns the caller. Throws `not_found`. */
  async get(caller: Caller, id: string): Promise<LoadedHost> {
    const host = await this.ground.store.find(id);
    if (host && (this.isOperator(caller) || host.teamId === caller.team)) return host;
    throw absent(id);
  }

  /** A host that the caller may change. Throws `not_found` or `forbidden`. */
  async owned(caller: Caller, id: string): Promise<LoadedHost> {
    const host = await this.get(caller, id);
    this.#needRight(caller, host.teamId);
    return host;
  }

  /** What a deletion would end, and whether a drain would take it to other hosts first. */
  async preview(caller: Caller, id: string): Promise<Ending> {
    const host = await this.owned(caller, id);
    const all = await this.ground.store.sandboxesOn(id);
    const sandboxes = all.map((row) => capsuleId(row.id as SandboxId));
    const snapshots = await this.ground.store.snapshotsOn(id);
    return { host, sandboxes, snapshots, canMove: this.ground.drains.hasOtherPlace({ hostId: id }) };
  }

  /** Takes a host out. Throws `has_active_sandboxes` unless it is empty or forced; then what it has ends first. */
  async remove(caller: Caller, id: string, force: boolean): Promise<void> {
    const { sandboxes, snapshots } = await this.preview(caller, id);
    if (sandboxes.length + snapshots.length > 0 && !force)
      throw new WrennError("has_active_sandboxes", `The host has ${counted(sandboxes, snapshots)}.`, {
        remedy:
          "Drain the host to move its sandboxes, or delete them and the snapshots; or delete the host with force=true, which ends them all.",
        details: { sandbox_ids: sandboxes.slice(0, 100).join(",") },
      });
    await this.ground.store.setMode(id, "maintenance"); // nothing new comes while the rest goes
    for (const { id: sandbox } of await this.ground.store.sandboxesOn(id)) {
      const row = await this.ground.sandboxes.store.find(sandbox);
      // A host that is away cannot be asked; it is told when it comes back that it is none of ours.
      if (row) await this.ground.sandboxes.remove(row, { timeoutMs: 10_000 }).catch(() => {});
    }
    await this.ground.store.remove(id);
  }

  /** What the host is wanted for from now on. */
  async setMode(caller: Caller, id: string, mode: HostMode): Promise<LoadedHost> {
    await this.owned(caller, id);
    await this.ground.store.setMode(id, mode);
    this.ground.sandboxes.fleet.wanted(id, mode);
    return this.get(caller, id);
  }

  /**
   * Keeps new sandboxes away and empties the host: what is on it goes on elsewhere, or is paused where no other host could
   * resume it. Answers when that is done, or at once unless `waits`.
   */
  async drain(caller: Caller, id: string, waits: boolean): Promise<Drained> {
    await this.setMode(caller, id, "draining");
    const { done } = await this.ground.drains.begin(caller, id);
    if (waits) await done;
    else done.catch(() => {}); // another replica, or this one, goes on after a while
    return await this.drained(caller, id);
  }

  /** How far the emptying of a host has come. Throws `not_found` for one that nobody emptied. */
  async drained(caller: Caller, id: string): Promise<Drained> {
    const host = await this.get(caller, id);
    const drain = await this.ground.drains.find(id);
    if (drain) return { host, drain };
    throw new WrennError("not_found", "Nobody has emptied this host.", {
      remedy: "Begin with POST /v1/hosts/{host}/drain.",
      details: { host: id },
    });
  }

  /** Whether the caller looks after the installation. */
  isOperator({ user, actor }: Caller): boolean {
    return user?.isAdmin === true || (actor.type === "api_key" && actor.id === this.ground.operatorKey);
  }

  /** What replicas show to a host's agent. */
  agentToken(id: string): string {
    return createHmac("sha256", this.ground.agentSecret).update(`host agent ${id}`).digest("hex");
  }

  #needRight(caller: Caller, teamId: string | null): void {
    if (this.isOperator(caller)) return;
    const leads = caller.role === "owner" || caller.role === "admin";
    if (teamId !== null && teamId === caller.team && leads) return;
    throw new WrennError("forbidden", "Hosts are for administrators of the installation, or of the team they serve.", {
      remedy: "Sign in as one, or use the key that the server was started with.",
    });
  }

  async #identity(id: string, pair: TokenPair, identity: Identity): Promise<Registered> {
    const host = (await this.ground.store.find(id))!;
    return { host, pair, identity, agentToken: this.agentToken(id), ca: this.ground.authority.pem };
  }
}

/** `HOST:PORT` that a host's certificate names: the control plane looks at its fingerprint, whatever it names. */
const placeOf = (address: string): string =>
  address.startsWith(tunnelScheme) ? "localhost:443" : new URL(address).host;

const counted = (sandboxes: readonly string[], snapshots: readonly string[]): string =>
  [sandboxes.length > 0 && `${sandboxes.length} sandboxes`, snapshots.length > 0 && `${snapshots.length} snapshots`]
    .filter(Boolean)
    .join(" and ");

const badToken = () =>
  new WrennError("unauthorized", "The host's token is unknown, used, or out of date.", {
    remedy: "Make a new one with POST /v1/hosts/{id}/token, or register as a new host with POST /v1/hosts.",
  });

const absent = (id: string) =>
  new WrennError("not_found", "There is no such host.", {
    remedy: "`GET /v1/hosts` lists the hosts there are.",
    details: { host: id },
  });
