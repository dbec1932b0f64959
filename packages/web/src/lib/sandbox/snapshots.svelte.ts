import type { SnapshotInfo, WrennEvent } from "wrenn";
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
      this.all = await session.client.snapshots.list();
      this.error = undefined;
    } catch (thrown) {
      this.error = thrown;
    }
  }

  close(): void {
    this.#stop();
  }
}

/** A fork leaves a snapshot of its moment too. */
const isAbout = ({ kind }: WrennEvent): boolean =>
  kind === "connected" || kind.startsWith("template.snapshot.") || kind === "capsule.create" || kind === "capsule.fork";
