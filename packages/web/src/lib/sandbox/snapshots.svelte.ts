import { Sandbox, type SnapshotInfo, type WrennEvent } from "wrenn";
import { live } from "#lib/api/live.svelte.ts";
import { session } from "#lib/api/session.svelte.ts";

/** The team's snapshots, read anew when an event says that they changed. */
export class SnapshotList {
  all = $state.raw<readonly SnapshotInfo[] | undefined>(undefined);
  error = $state.raw<unknown>(undefined);
  readonly #stop: () => void;

  constructor() {
    this.#stop = live.on((event) => isAbout(event) && void this.load());
    void this.load();
  }

  async load(): Promise<void> {
    try {
      const known = new Set(this.all?.map(({ name }) => name));
      const all = await session.client.snapshots.list();
      const fresh = this.all === undefined ? [] : all.filter(({ name }) => !known.has(name));
      await follow(fresh.map(({ sandboxId }) => sandboxId));
      this.all = all;
      this.error = undefined;
    } catch (thrown) {
      this.error = thrown;
    }
  }

  close(): void {
    this.#stop();
  }
}

/** A sandbox stands on its newest snapshot, and no event says so. */
async function follow(ids: readonly string[]): Promise<void> {
  for (const id of new Set(ids)) {
    if (live.find(id)) live.take(await Sandbox.info(id, { client: session.client }));
  }
}

/** A fork leaves a snapshot of its moment too. */
const isAbout = ({ kind }: WrennEvent): boolean =>
  kind === "connected" || kind.startsWith("template.snapshot.") || kind === "capsule.create" || kind === "capsule.fork";
