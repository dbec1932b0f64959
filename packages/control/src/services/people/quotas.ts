import { type rest, WrennError } from "@wrenn/contract";
import type { PeopleStore } from "../../store/people/index.ts";
import type { Limits } from "../../store/people/quotas.ts";
import type { QuotaRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { Remembered } from "./remembered.ts";
import { tooMany } from "./throttle.ts";

/** Who has no limits is remembered too, so that a creation asks the database for nothing. */
type Known = { row: QuotaRow | undefined };

/** How much a team may have. Sums are held by the database; what depends on time or on one request is held here. */
export class Quotas {
  readonly #known = new Remembered<Known>();

  constructor(readonly store: PeopleStore) {}

  /**
   * Lets a creation begin, and answers the time-out it gets: one without end gets the longest there may be. Throws
   * `rate_limited`, or `invalid_request` for an end that is too far.
   */
  async admit(caller: Caller, wish: { timeout_sec: number; endAt?: Date | undefined }): Promise<number> {
    const row = await this.#of(caller.team);
    if (!row) return wish.timeout_sec;
    const rate = row.createsPerSec;
    if (rate !== null) {
      const size = Math.max(1, Math.ceil(rate));
      const wait = await this.store.attempts.note({ name: `create:${caller.team}`, size, drainSec: size / rate });
      if (wait > 0) throw tooMany(wait);
    }
    if (wish.endAt === undefined) return bounded(row, wish.timeout_sec);
    bounded(row, Math.floor((wish.endAt.getTime() - Date.now()) / 1_000));
    return wish.timeout_sec;
  }

  /** The time-out that a team may set. Throws `invalid_request`. */
  async timeoutFor(caller: Caller, timeoutSec: number): Promise<number> {
    const row = await this.#of(caller.team);
    return row ? bounded(row, timeoutSec) : timeoutSec;
  }

  /** A team's limits, and what it has of each. */
  async state(team: string): Promise<rest.QuotaState> {
    const [row, used] = await Promise.all([this.store.quotas.of(team), this.store.quotas.use(team)]);
    const { sandboxes, vcpus, memoryMb: memory_mb, diskMb: disk_mb } = used;
    return { limits: shown(row), used: { sandboxes, vcpus, memory_mb, disk_mb } };
  }

  /** Sets a team's limits, or those of every team without limits of its own; what is absent has none. */
  async set(team: string, limits: rest.QuotaLimits): Promise<void> {
    await this.store.quotas.set(team, read(limits));
    this.forget();
  }

  /** Lets the limits of every team hold for this one again. */
  async unset(team: string): Promise<void> {
    await this.store.quotas.unset(team);
    this.forget();
  }

  /** Reads everything anew. */
  forget(): void {
    this.#known.clear();
  }

  async #of(team: string): Promise<QuotaRow | undefined> {
    const known = await this.#known.get(team, async () => ({ row: await this.store.quotas.of(team) }));
    return known?.row;
  }
}

function bounded({ maxTimeoutSec: longest }: QuotaRow, timeoutSec: number): number {
  if (longest === null) return timeoutSec;
  if (timeoutSec > longest)
    throw new WrennError("invalid_request", `The team's sandboxes time out after ${longest} seconds at most.`, {
      remedy: `Ask for ${longest} seconds or less, or an administrator for a higher limit.`,
      details: { field: "timeout_sec", limit: `${longest}` },
    });
  return timeoutSec === 0 ? longest : timeoutSec;
}

/** Limits as they are shown: what has none is absent. */
export function shown(row: Limits | undefined): rest.QuotaLimits {
  const all = {
    sandboxes: row?.sandboxes,
    vcpus: row?.vcpus,
    memory_mb: row?.memoryMb,
    disk_mb: row?.diskMb,
    creates_per_sec: row?.createsPerSec,
    max_timeout_sec: row?.maxTimeoutSec,
  };
  return Object.fromEntries(Object.entries(all).filter(([, limit]) => limit !== null && limit !== undefined));
}

const read = (limits: rest.QuotaLimits): Limits => ({
  sandboxes: limits.sandboxes ?? null,
  vcpus: limits.vcpus ?? null,
  memoryMb: limits.memory_mb ?? null,
  diskMb: limits.disk_mb ?? null,
  createsPerSec: limits.creates_per_sec ?? null,
  maxTimeoutSec: limits.max_timeout_sec ?? null,
});
