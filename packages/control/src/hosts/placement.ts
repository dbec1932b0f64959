import type { LoadedHost } from "../store/fleet/hosts.ts";

/** How the host of a new sandbox is chosen. */
export const strategies = ["least-loaded", "bin-pack", "round-robin"] as const;
/** One of {@link strategies}. */
export type Strategy = (typeof strategies)[number];

/** What a new sandbox needs of its host; sizes that are not told count as the smallest usual ones. */
export type Needs = {
  team: string;
  memoryMib: number;
  vcpus: number;
  zone?: string | undefined;
  /** Whether every host is looked at, since few may have what it starts from. */
  wide?: boolean;
  /** Whether a host could run it at all; any where it is absent. */
  fits?: (host: LoadedHost) => boolean;
};

/** A core runs this many virtual ones: most sandboxes wait for their user most of the time. */
const vcpusPerCore = 8;

/** Memory that sandboxes may reserve of a machine: all but a share for the system, times what is lent more than once. */
export function capacityOf(memoryMib: number, overcommit: number): number {
  const kept = Math.min(8_192, Math.ceil(memoryMib / 8));
  return Math.floor((memoryMib - kept) * overcommit);
}

/** Teams with hosts of their own, for each list of hosts that was looked at: a large one is not walked for every create. */
const owners = new WeakMap<readonly LoadedHost[], ReadonlySet<string | null>>();

function ownersOf(all: readonly LoadedHost[]): ReadonlySet<string | null> {
  const known = owners.get(all) ?? new Set(all.map(({ teamId }) => teamId));
  owners.set(all, known);
  return known;
}

/** Whether a team's sandboxes may run there: a team that has hosts of its own uses only those, others use the common ones. */
export function serves(all: readonly LoadedHost[], team: string): (host: LoadedHost) => boolean {
  const owner = ownersOf(all).has(team) ? team : null;
  return (host) => host.teamId === owner;
}

/** Hosts that seem full are tried too, since what was given back lately is not known here; but not a thousand of them. */
const seeminglyFull = 3;
/**
 * Hosts with room that are compared for one sandbox, each time others in turn: the least loaded of so many is nearly
 * the least loaded of all, and the cost of a create does not grow with the fleet.
 */
const compared = 64;

/**
 * The hosts that may take a new sandbox, best first, by what is known here. The database has the last word: it knows
 * what other replicas reserve and give back meanwhile. `turn` rises with every placement.
 */
export function rank(all: readonly LoadedHost[], needs: Needs, strategy: Strategy, turn: number): LoadedHost[] {
  const { fitting, full } = open(all, needs, strategy === "least-loaded" && !needs.wide ? turn : undefined);
  full.sort((a, b) => b.score - a.score);
  const sign = strategy === "least-loaded" ? -1 : 1;
  const tie = ({ at }: Open) => (at + turn) % all.length;
  if (strategy !== "round-robin") fitting.sort((a, b) => sign * (a.score - b.score) || tie(a) - tie(b));
  const first = strategy === "round-robin" && fitting.length > 0 ? turn % fitting.length : 0;
  const turned = [...fitting.slice(first), ...fitting.slice(0, first)];
  return [...turned, ...full.slice(0, seeminglyFull)].map(({ host }) => host);
}

/** A host that takes sandboxes like the wanted one: what is left of it then, and its place among all. */
type Open = { host: LoadedHost; score: number; at: number };

/** The hosts that take such a sandbox, apart from those that seem full. With `turn` no more than are worth comparing. */
function open(all: readonly LoadedHost[], needs: Needs, turn: number | undefined): { fitting: Open[]; full: Open[] } {
  const [fitting, full]: [Open[], Open[]] = [[], []];
  const isServed = serves(all, needs.team);
  const start = turn === undefined || all.length <= compared ? 0 : (turn * compared) % all.length;
  for (let step = 0; step < all.length && (turn === undefined || fitting.length < compared); step++) {
    const at = (start + step) % all.length;
    const host = all[at]!;
    if (host.mode !== "active" || host.status !== "online" || !isServed(host)) continue;
    if ((needs.zone !== undefined && host.zone !== needs.zone) || needs.fits?.(host) === false) continue;
    const score = left(host, needs);
    (score < 0 ? full : fitting).push({ host, score, at });
  }
  return { fitting, full };
}

/** The smaller of the shares of memory and of processors that are left with the sandbox there; processors never refuse. */
function left({ load, capacityMib, cpuCores }: LoadedHost, needs: Needs): number {
  const memory = capacityMib === 0 ? 1 : (capacityMib - load.memoryMib - needs.memoryMib) / capacityMib;
  const cpus = cpuCores * vcpusPerCore;
  const processors = cpus === 0 ? 1 : Math.max(0, (cpus - load.vcpus - needs.vcpus) / cpus);
  return memory < 0 ? memory : Math.min(memory, processors);
}
