import type { SQL } from "bun";

/** The channel that all replicas of one database share; migrations name it too. */
const channel = "wrenn_events";

/** What happened, as it travels: short, since a notification has less than 8000 bytes. */
export type Note = {
  kind:
    | "capsule.create"
    | "capsule.pause"
    | "capsule.resume"
    | "capsule.destroy"
    | "capsule.state.changed"
    | "template.snapshot.create"
    | "template.snapshot.delete";
  team: string;
  /** Of the sandbox, or the name of the snapshot. */
  id: string;
  /** Who asked; absent for what the system does by itself. */
  actor?: { type: string; id: string; name: string };
  /** Why an action failed. */
  error?: string;
  /** Of a change of state. */
  from?: string;
  to?: string;
  reason?: string;
};

/** Notes between replicas, over PostgreSQL's NOTIFY. */
export class EventStore {
  readonly #client: SQL;

  constructor(client: SQL) {
    this.#client = client;
  }

  /** Tells every replica. */
  async notify(note: Note): Promise<void> {
    await this.#client.notify(channel, JSON.stringify(note));
  }

  /** Hears every note from now on. `onGap` is called when some may have been missed. */
  async listen(onNote: (note: Note) => void, onGap: () => void): Promise<AsyncDisposable> {
    let isFirst = true;
    return await this.#client.listen(
      channel,
      (payload) => onNote(JSON.parse(payload)),
      () => {
        if (!isFirst) onGap();
        isFirst = false;
      },
    );
  }
}
