import { type rest, WrennError } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";

/** A point in time of a sandbox: memory, processes and disk. `Sandbox.create({ template: name })` starts from it. */
export type SnapshotInfo = {
  name: string;
  /** The sandbox it was taken of, which may be gone. */
  sandboxId: string;
  /** Name of the snapshot before it in its line, unless that was deleted. */
  parent: string | undefined;
  vcpus: number | undefined;
  memoryMiB: number | undefined;
  sizeBytes: number;
  metadata: Record<string, string>;
  createdAt: Date;
};

/** How a snapshot is to be called, and labels for it. */
export type CheckpointOptions = CallOptions & {
  /** 1 to 64 letters, digits, `.`, `_`, `-`; default: one that the server makes. */
  name?: string | undefined;
  metadata?: Record<string, string> | undefined;
  /** Leaves memory and processes out: what is created from it boots. */
  diskOnly?: boolean | undefined;
};

/** The snapshots of a key's team, as `client.snapshots`; `sandbox.checkpoint` takes them. */
export class Snapshots {
  readonly #client: Api;

  constructor(client: Api) {
    this.#client = client;
  }

  /** Every snapshot of the team, newest first. */
  async list(options: CallOptions = {}): Promise<SnapshotInfo[]> {
    const found = await this.#client.request<rest.Snapshot[]>("GET", "/v1/snapshots?type=snapshot", options);
    return found.map(snapshotInfo);
  }

  /** The snapshot of this name; throws `not_found`, also for the name of a template. */
  async get(name: string, options: CallOptions = {}): Promise<SnapshotInfo> {
    const found = await this.#client.request<rest.Snapshot | rest.Template>("GET", pathOf(name), options);
    if ("capsule_id" in found) return snapshotInfo(found);
    throw new WrennError("not_found", `"${name}" is a template, not a snapshot`, {
      remedy: "List what there is with `client.snapshots.list()`.",
      details: { snapshot: name },
    });
  }

  /** Removes a snapshot; what was made from it stays. False when there is none; throws `forbidden` for a template. */
  async delete(name: string, options: CallOptions = {}): Promise<boolean> {
    try {
      await this.#client.request("DELETE", pathOf(name), options);
      return true;
    } catch (thrown) {
      if (thrown instanceof WrennError && thrown.code === "not_found") return false;
      throw thrown;
    }
  }
}

const pathOf = (name: string): string => `/v1/snapshots/${encodeURIComponent(name)}`;

/**
 * A snapshot of the REST API in the SDK's words and units.
 * @internal
 */
export function snapshotInfo(snapshot: rest.Snapshot): SnapshotInfo {
  return {
    name: snapshot.name,
    sandboxId: snapshot.capsule_id,
    parent: snapshot.parent,
    vcpus: snapshot.vcpus,
    memoryMiB: snapshot.memory_mb,
    sizeBytes: snapshot.size_bytes,
    metadata: snapshot.metadata ?? {},
    createdAt: new Date(snapshot.created_at),
  };
}
