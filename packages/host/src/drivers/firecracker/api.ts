import { statSync } from "node:fs";
import { WrennError } from "@wrenn/contract";
import { withSocketPath } from "../../socket-path.ts";

/**
 * Firecracker's REST API on its unix socket, as far as it is used here: the names and shapes of its OpenAPI description
 * (src/firecracker/swagger/firecracker.yaml, v1.16). Firecracker refuses unknown fields, so a wrong one shows at once.
 */
export type TokenBucket = { readonly size: number; readonly refill_time: number; readonly one_time_burst?: number };
export type RateLimiter = { readonly bandwidth?: TokenBucket; readonly ops?: TokenBucket };

/** Body of each `PUT`. */
export type Puts = {
  "/boot-source": { kernel_image_path: string; initrd_path?: string; boot_args: string };
  "/drives/rootfs": {
    drive_id: "rootfs";
    path_on_host: string;
    is_root_device: true;
    is_read_only: false;
    cache_type: "Unsafe" | "Writeback";
    rate_limiter?: RateLimiter;
  };
  "/network-interfaces/eth0": {
    iface_id: "eth0";
    host_dev_name: string;
    guest_mac: string;
    rx_rate_limiter?: RateLimiter;
    tx_rate_limiter?: RateLimiter;
  };
  "/machine-config": { vcpu_count: number; mem_size_mib: number; smt: boolean; track_dirty_pages: boolean };
  "/entropy": { rate_limiter?: RateLimiter };
  "/mmds/config": { version: "V2"; network_interfaces: ["eth0"]; ipv4_address: string; imds_compat: boolean };
  "/mmds": Readonly<Record<string, string>>;
  "/actions": { action_type: "InstanceStart" | "FlushMetrics" | "SendCtrlAltDel" };
  "/snapshot/create": { snapshot_type: "Full" | "Diff"; snapshot_path: string; mem_file_path: string };
  "/snapshot/load": {
    snapshot_path: string;
    mem_backend: { backend_type: "File" | "Uffd"; backend_path: string };
    track_dirty_pages: boolean;
    resume_vm: boolean;
  };
};

/** Body of each `PATCH`. */
export type Patches = {
  "/vm": { state: "Paused" | "Resumed" };
  "/drives/rootfs": { drive_id: "rootfs"; path_on_host?: string; rate_limiter?: RateLimiter };
  "/network-interfaces/eth0": { iface_id: "eth0"; rx_rate_limiter?: RateLimiter; tx_rate_limiter?: RateLimiter };
};

/** Answer of `GET /`. */
export type InstanceInfo = { id: string; state: "Not started" | "Running" | "Paused"; vmm_version: string };

/** How long Firecracker may take for what writes or reads a whole memory, and for anything else. */
export type Patience = { readonly slowMs: number; readonly quickMs: number };
const usual: Patience = { slowMs: 120_000, quickMs: 20_000 };

/** Between two looks at a socket that nobody listens on yet: its file appears before. */
const pollMs = 2;

/** The API of one Firecracker process. Every call throws `agent_error` with what Firecracker said. */
export class FirecrackerApi {
  constructor(
    readonly socket: string,
    readonly patience = usual,
  ) {}

  /** Waits until the API answers. `alive` tells whether it still can. */
  async ready(alive: () => boolean): Promise<InstanceInfo> {
    const deadline = performance.now() + this.patience.quickMs;
    for (;;) {
      const found = isThere(this.socket) ? await this.info().catch((thrown: Error) => thrown) : notYet();
      if (!(found instanceof Error)) return found;
      if (!alive()) throw new WrennError("agent_error", "Firecracker ended before it answered");
      if (performance.now() > deadline) throw found;
      await Bun.sleep(pollMs);
    }
  }

  async info(): Promise<InstanceInfo> {
    return (await this.#call("GET", "/", undefined, this.patience.quickMs)) as InstanceInfo;
  }

  async put<P extends keyof Puts>(path: P, body: Puts[P]): Promise<void> {
    const { slowMs, quickMs } = this.patience;
    await this.#call("PUT", path, body, path.startsWith("/snapshot") || path === "/actions" ? slowMs : quickMs);
  }

  async patch<P extends keyof Patches>(path: P, body: Patches[P]): Promise<void> {
    await this.#call("PATCH", path, body, this.patience.quickMs);
  }

  async #call(method: string, path: string, body: unknown, timeoutMs: number): Promise<unknown> {
    const request = {
      ...{ method, signal: AbortSignal.timeout(timeoutMs), keepalive: false },
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    };
    const answer = await withSocketPath(this.socket, (unix) =>
      fetch(`http://localhost${path}`, { ...request, unix }),
    ).catch((cause) => {
      throw new WrennError("agent_error", `Firecracker did not answer ${method} ${path}`, { cause });
    });
    const text = await answer.text();
    if (answer.ok) return text ? JSON.parse(text) : undefined;
    throw new WrennError("agent_error", `Firecracker refused ${method} ${path}: ${faultIn(text)}`);
  }
}

/** By stat(2): access(2), which tells whether a file exists elsewhere, does not look with an agent's capabilities into a jail. */
function isThere(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

const notYet = () => new WrennError("agent_error", "Firecracker has not opened its socket");

function faultIn(text: string): string {
  try {
    return (JSON.parse(text) as { fault_message?: string }).fault_message ?? text;
  } catch {
    return text;
  }
}
