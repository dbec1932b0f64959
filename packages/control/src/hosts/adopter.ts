import type { hostagent } from "@wrenn/contract";
import type { SandboxRow } from "../store/schema/index.ts";
import { automaticName, buildLabel, type SnapshotStore, type Taken } from "../store/snapshots.ts";
import type { Host } from "./host.ts";
import type { WatchGround } from "./watch-ground.ts";

const askMs = 10_000;

/** A snapshot that a host took of `row`, as it is written down. */
export const taken = (row: SandboxRow, from: hostagent.Snapshot): Taken => ({
  id: from.id,
  teamId: row.teamId,
  hostId: row.hostId,
  sandboxId: row.id,
  parentId: from.parent,
  template: from.template,
  vcpus: from.vcpus,
  memoryMib: from.memoryMib,
  diskMib: from.diskMib,
  sizeBytes: Number(from.memoryBytes + from.diskBytes),
  mounts: row.mounts,
});

/**
 * Finds the snapshots of our sandboxes that a host took for a control plane which died before it wrote them down, and
 * gives them a name: their team may use or delete them. Those of sandboxes that the database does not know are left alone.
 */
export class Adopter {
  /** Unknown at the last look; their maker may have been about to write them down. */
  #suspects: ReadonlySet<string> = new Set();
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly host: Host,
    readonly ground: Pick<WatchGround, "store" | "snapshots" | "timings" | "log">,
  ) {}

  /** Looks, unless it was done so lately that a maker may still be at work. */
  async look(): Promise<void> {
    const { snapshots, timings } = this.ground;
    if (performance.now() - this.#lookedAt < timings.abandonedMs) return;
    this.#lookedAt = performance.now();
    const { snapshots: found } = await this.host.rpc.listSnapshots({}, { timeoutMs: askMs });
    const known = await snapshots.names(found.map(({ id }) => id));
    const unknown = found.filter(({ id }) => !known.has(id));
    for (const each of unknown) if (this.#suspects.has(each.id)) await this.#adopt(each, snapshots);
    this.#suspects = new Set(unknown.map(({ id }) => id));
  }

  async #adopt(found: hostagent.Snapshot, snapshots: SnapshotStore): Promise<void> {
    const row = await this.ground.store.find(found.sandboxId);
    if (row?.hostId !== this.host.id) return;
    const made = await snapshots.insert({
      ...taken(row, found),
      name: automaticName(),
      metadata: { recovered: "true" },
      ofBuild: buildLabel in row.metadata, // a build does without it; what nobody needs is collected
    });
    this.ground.log.warn(
      { snapshot: found.id, sandbox: row.id, name: made?.name },
      "found a snapshot nobody wrote down",
    );
  }
}
