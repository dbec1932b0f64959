import { type rest, type SandboxId, WrennError } from "@wrenn/contract";
import { guestOf } from "../../hosts/guest.ts";
import type { Once } from "../../store/once.ts";
import { isOver, isRunning } from "../../store/phase.ts";
import type { ListFilter } from "../../store/sandboxes.ts";
import type { SandboxRow, SnapshotRow, Terms } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { inSeconds } from "../life/ends.ts";
import { limits } from "../limits.ts";
import { type Networks, openPolicy } from "../network/networks.ts";
import { absent, wrongState } from "../refusals.ts";
import type { Sandboxes } from "../sandboxes.ts";
import type { Label, Snapshots } from "../snapshots.ts";
import { policyOf } from "./egress.ts";
import { plainName } from "./names.ts";
import type { Waker } from "./waker.ts";

/** How long a sandbox is to live from now on, and whether it boots although its memory was kept. */
type Renewed = { timeoutSec: number; diskOnly: boolean };
/** Whether a pause wants a guest that answers, and gives its memory up. */
type Paused = { onlyHealthy: boolean; diskOnly: boolean };

/** A creation that took longer than this has used up time that was meant for running. */
const slowCreateMs = 1_000;

/** Sandboxes that live until a given time, as clients of the E2B dialect know them. One that is over does not exist. */
export class Leases {
  constructor(
    readonly sandboxes: Sandboxes,
    readonly snapshots: Snapshots,
    readonly waker: Waker,
    readonly networks: Networks,
  ) {}

  /** Makes a sandbox that lives for `timeoutSec` from when it runs. Throws what {@link Sandboxes.create} throws. */
  async create(caller: Caller, wish: rest.e2b.NewSandbox, timeoutSec: number, once?: Once): Promise<SandboxRow> {
    const asked = Date.now();
    const spec = {
      template: plainName(wish.templateID),
      timeout_sec: 0,
      timeout_action: wish.autoPause ? ("pause" as const) : ("kill" as const),
      envs: wish.envVars ?? {},
      metadata: wish.metadata ?? {},
      endAt: inSeconds(timeoutSec),
      terms: termsOf(wish, timeoutSec),
      network: policyOf({ ...wish.network, allow_internet_access: wish.allow_internet_access }),
      volumes: wish.volumeMounts ?? [],
    };
    const row = await this.sandboxes.create(caller, spec, once);
    if (Date.now() - asked < slowCreateMs) return row;
    return (await this.sandboxes.store.setEnd(row.id, inSeconds(timeoutSec), true)) ?? row;
  }

  /** The sandbox. Throws `not_found` also when it is over. */
  async get(caller: Caller, id: SandboxId): Promise<SandboxRow> {
    const row = await this.sandboxes.get(caller, id);
    if (isOver(row)) throw absent(id);
    return row;
  }

  /** The team's sandboxes, and how many running ones the filter shows on all pages. */
  async list(caller: Caller, filter: ListFilter): Promise<{ rows: SandboxRow[]; running: number }> {
    const states = filter.states.filter((state) => state === "running");
    const [rows, running] = await Promise.all([
      this.sandboxes.list(caller, filter),
      this.sandboxes.store.total(caller.team, { ...filter, states }),
    ]);
    return { rows, running };
  }

  /** Makes it run, if it is paused, and live for `timeoutSec` at least. */
  async connect(
    caller: Caller,
    id: SandboxId,
    { timeoutSec, diskOnly }: Renewed,
  ): Promise<{ row: SandboxRow; resumed: boolean }> {
    const endAt = inSeconds(timeoutSec);
    const seen = await this.get(caller, id);
    const resumed = !isRunning(seen);
    if (resumed)
      await this.waker.wake(caller, id, { endAt, diskOnly }).catch((thrown) => this.#gone(caller, id, thrown));
    const row = await this.sandboxes.store.setEnd(id, endAt, true);
    return { row: row ?? (await this.get(caller, id)), resumed };
  }

  /** Replaces the rules for its outgoing traffic, at once; what the wish does not name is cleared. */
  async setNetwork(caller: Caller, id: SandboxId, wish: rest.e2b.NetworkUpdate): Promise<void> {
    const { terms } = await this.get(caller, id);
    const { allow_internet_access: access, ...egress } = wish;
    const { allowPublicTraffic, maskRequestHost, httpsPorts } = terms?.network ?? {};
    const network = { ...egress, allowPublicTraffic, maskRequestHost, httpsPorts };
    const shown = terms ? { ...terms, allowInternetAccess: access ?? undefined, network } : undefined;
    await this.networks.set(caller, id, policyOf(wish) ?? openPolicy, shown);
  }

  /** Makes a paused sandbox run, for `timeoutSec`. Throws `invalid_state` when it runs. */
  async resume(caller: Caller, id: SandboxId, { timeoutSec, diskOnly }: Renewed): Promise<SandboxRow> {
    const row = await this.get(caller, id);
    if (isRunning(row)) throw wrongState(row);
    const wish = { endAt: inSeconds(timeoutSec), diskOnly };
    return await this.waker.wake(caller, id, wish).catch((thrown) => this.#gone(caller, id, thrown));
  }

  /** Sets the end of a running sandbox, or with `later` moves it back only. Throws `not_found` unless it runs. */
  async setTimeout(caller: Caller, id: SandboxId, timeoutSec: number, later = false): Promise<void> {
    await this.get(caller, id);
    if (!(await this.sandboxes.store.setEnd(id, inSeconds(timeoutSec), later))) throw absent(id);
  }

  /**
   * Pauses it. With `onlyHealthy` its agent is asked first, and `unavailable` thrown when it does not answer. Throws
   * `invalid_state` when it is paused.
   */
  async pause(caller: Caller, id: SandboxId, { onlyHealthy, diskOnly }: Paused): Promise<SandboxRow> {
    const row = await this.get(caller, id);
    if (onlyHealthy && isRunning(row)) await this.#needHealth(row);
    return await this.sandboxes.pause(caller, id, { diskOnly }).catch((thrown) => this.#gone(caller, id, thrown));
  }

  /** Removes it. Throws `not_found` when there is nothing to remove. */
  async kill(caller: Caller, id: SandboxId): Promise<void> {
    await this.get(caller, id);
    await this.sandboxes.destroy(caller, id);
  }

  /** Starts `count` sandboxes from what this one is now, each for itself; each lives for `timeoutSec`. */
  async fork(
    caller: Caller,
    id: SandboxId,
    count: number,
    timeoutSec: number,
  ): Promise<PromiseSettledResult<SandboxRow>[]> {
    await this.get(caller, id);
    return await this.snapshots.forkEach(caller, id, { count, endAt: inSeconds(timeoutSec) });
  }

  /** Takes a snapshot. One of that name is replaced: the name then means the new one. */
  async snapshot(caller: Caller, id: SandboxId, { name, diskOnly }: Label): Promise<SnapshotRow> {
    await this.get(caller, id);
    const former = name === undefined ? undefined : await this.snapshots.store.named(caller.team, name);
    if (!former) return await this.snapshots.checkpoint(caller, id, { name, diskOnly });
    const taken = await this.snapshots.checkpoint(caller, id, { diskOnly });
    await this.snapshots.store.swapNames(former, taken);
    await this.snapshots.remove(caller, taken.name);
    return { ...taken, name: former.name };
  }

  async #needHealth({ id, hostId }: SandboxRow): Promise<void> {
    const agent = guestOf(this.sandboxes.fleet.host(hostId), id);
    await agent.http("/health", { signal: AbortSignal.timeout(limits.quick) }).catch((cause) => {
      throw new WrennError("unavailable", "The sandbox's agent does not answer, so it was not paused.", {
        remedy: "Pause it with its memory, and without requireHealthyGuest, to keep it as it is.",
        cause,
      });
    });
  }

  /** A change that failed because the sandbox was killed meanwhile failed because it does not exist. */
  async #gone(caller: Caller, id: SandboxId, thrown: unknown): Promise<never> {
    if (thrown instanceof WrennError && thrown.code === "invalid_state") await this.get(caller, id);
    throw thrown;
  }
}

function termsOf(wish: rest.e2b.NewSandbox, timeoutSec: number): Terms {
  return {
    timeoutSec,
    autoResume: wish.autoResume?.enabled ?? false,
    keepMemory: wish.autoPauseMemory ?? true,
    allowInternetAccess: wish.allow_internet_access ?? undefined,
    network: wish.network ?? undefined,
    iam: wish.iam ?? undefined,
  };
}
