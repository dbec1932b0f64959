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

/** Whether a team's sandboxes may run there: a team that has hosts of its own uses only those, others use the common ones. */
export function serves(all: readonly LoadedHost[], team: string): (host: LoadedHost) => boolean {
  const hasOwn = all.some((host) => host.teamId === team);
  return (host) => host.teamId === (hasOwn ? team : null);
}

/** Hosts that seem full are tried too, since what was given back lately is not known here; but not a thousand of them. */
const seeminglyFull = 3;

/**
 * The hosts that may take a new sandbox, best first, by what is known here. The database has the last word: it knows
 * what other replicas reserve and give back meanwhile. `turn` rises with every placement.
 */
export function rank(all: readonly LoadedHost[], needs: Needs, strategy: Strategy, turn: number): LoadedHost[] {
  const open = all
    .filter(serves(all, needs.team))
    .filter(needs.fits ?? (() => true))
    .filter((host) => host.mode === "active" && host.status === "online")
    .filter((host) => needs.zone === undefined || host.zone === needs.zone)
    .map((host, at) => ({ host, score: left(host, needs), at }));
  const fitting = open.filter(({ score }) => score >= 0);
  const full = open.filter(({ score }) => score < 0).sort((a, b) => b.score - a.score);
  const sign = strategy === "least-loaded" ? -1 : 1;
  const tie = ({ at }: { at: number }) => (at + turn) % open.length;
  if (strategy !== "round-robin") fitting.sort((a, b) => sign * (a.score - b.score) || tie(a) - tie(b));
  const first = strategy === "round-robin" && fitting.length > 0 ? turn % fitting.length : 0;
  const turned = [...fitting.slice(first), ...fitting.slice(0, first)];
  return [...turned, ...full.slice(0, seeminglyFull)].map(({ host }) => host);
}

/** The smaller of the shares of memory and of processors that are left with the sandbox there; processors never refuse. */
function left({ load, capacityMib, cpuCores }: LoadedHost, needs: Needs): number {
  const memory = capacityMib === 0 ? 1 : (capacityMib - load.memoryMib - needs.memoryMib) / capacityMib;
  const cpus = cpuCores * vcpusPerCore;
  const processors = cpus === 0 ? 1 : Math.max(0, (cpus - load.vcpus - needs.vcpus) / cpus);
  return memory < 0 ? memory : Math.min(memory, processors);
}
