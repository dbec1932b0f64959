import type { rest } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";

/** A machine that runs sandboxes. */
export type HostInfo = {
  id: string;
  status: "pending" | "online" | "unreachable" | "draining" | "offline";
  /** What its operator wants of it. */
  mode: "active" | "cordoned" | "draining" | "maintenance";
  address: string | undefined;
  zone: string | undefined;
  sandboxes: number;
  memoryReservedMiB: number;
  memoryCapacityMiB: number;
  createdAt: Date;
};

/** How far the emptying of a host has come; every list has ids of sandboxes. */
export type DrainInfo = {
  host: string;
  /** Sandboxes that it began with. */
  total: number;
  /** Those that run on another host. */
  moved: string[];
  /** Those in the object store, which any fitting host resumes. */
  hibernated: string[];
  /** Those paused where they are, since no other host could resume them. */
  paused: string[];
  /** Those that could not leave, and why. */
  failed: Record<string, string>;
  isDone: boolean;
};

/** What is asked of a drain. */
export type DrainOptions = CallOptions & {
  /** Called whenever it has come further. */
  onProgress?: ((drain: DrainInfo) => void) | undefined;
};

/** A sandbox takes seconds to move; looking more often tells nothing more. */
const lookEveryMs = 500;

const pathOf = (id: string): string => `/v1/hosts/${encodeURIComponent(id)}`;

/** The machines of an installation; for its operator, and for teams with hosts of their own. */
export class Hosts {
  /** @internal */
  constructor(readonly client: Api) {}

  /** Every host that concerns the caller, oldest first. */
  async list(options: CallOptions = {}): Promise<HostInfo[]> {
    return (await this.client.request<rest.Host[]>("GET", "/v1/hosts", options)).map(hostInfo);
  }

  /** Keeps new sandboxes away from a host; what is there goes on. */
  async cordon(id: string, options: CallOptions = {}): Promise<HostInfo> {
    return hostInfo(await this.client.request<rest.Host>("POST", `${pathOf(id)}/cordon`, options));
  }

  /** Lets a host take new sandboxes again, after a cordon or a drain. */
  async uncordon(id: string, options: CallOptions = {}): Promise<HostInfo> {
    return hostInfo(await this.client.request<rest.Host>("POST", `${pathOf(id)}/uncordon`, options));
  }

  /**
   * Empties a host: what runs on it moves to other hosts, or is paused where no other could resume it. Resolves when that
   * is done; ending the wait by the signal does not end the drain.
   */
  async drain(id: string, { onProgress, ...options }: DrainOptions = {}): Promise<DrainInfo> {
    const path = `${pathOf(id)}/drain`;
    let drain = drainInfo(await this.client.request<rest.HostDrain>("POST", `${path}?wait=false`, options));
    let told = "";
    for (;;) {
      const now = JSON.stringify(drain);
      if (now !== told) onProgress?.(drain);
      told = now;
      if (drain.isDone) return drain;
      options.signal?.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
      drain = drainInfo(await this.client.request<rest.HostDrain>("GET", path, options));
    }
  }
}

const hostInfo = (host: rest.Host): HostInfo => ({
  id: host.id,
  status: host.status,
  mode: host.mode,
  address: host.address,
  zone: host.availability_zone,
  sandboxes: host.load.sandboxes,
  memoryReservedMiB: host.load.memory_mb_reserved,
  memoryCapacityMiB: host.load.memory_mb_capacity,
  createdAt: new Date(host.created_at),
});

const drainInfo = ({ host, total, moved, hibernated, paused, failed, finished_at }: rest.HostDrain): DrainInfo => ({
  ...{ host: host.id, total, moved, hibernated, paused, failed },
  isDone: finished_at !== undefined,
});
