import { capsuleId, type SandboxId, WrennError } from "@wrenn/contract";
import type { Log } from "../log.ts";
import type { EventFilter, EventStore, Note, Told } from "../store/events.ts";
import type { SandboxStore } from "../store/sandboxes.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import type { SnapshotStore } from "../store/snapshots.ts";
import type { Caller } from "./caller.ts";
import type { Audit, Deed } from "./people/audit.ts";
import type { Tasks } from "./tasks.ts";

/** A notification holds less than 8000 bytes, and a character takes up to 12 of them in JSON. */
const maxTextLength = 300;

/** An event as a subscriber gets it. `row` is the sandbox when it was told, with the name of the snapshot it stands on. */
export type Happening = Note & { row?: SandboxRow | undefined; names: ReadonlyMap<string, string> };
/** Who wants to know. `ended` is called when events may have been missed, or the program stops. */
export type Subscriber = { team: string; heard(event: Happening): void; ended(): void };

/** What the services stand on. */
type Ground = {
  audit: Pick<Audit, "note">;
  store: EventStore;
  sandboxes: SandboxStore;
  snapshots: SnapshotStore;
  tasks: Tasks;
  log: Log;
};

/** What happens in a team, told on every replica in the order in which it was committed. */
export class Events implements AsyncDisposable {
  readonly #subscribers = new Set<Subscriber>();
  #listening: Promise<AsyncDisposable> | undefined;
  /** Rows are read one after the other, so that events keep their order. */
  #queue: Promise<void> = Promise.resolve();

  constructor(readonly ground: Ground) {}

  /**
   * Does `work` and tells how it went. What changes a sandbox is told by the database, in the transaction that changes
   * it; here only what changed nothing is: an action that failed, or one on a snapshot.
   */
  async told<T>(caller: Caller, note: Pick<Note, "kind" | "id">, work: () => Promise<T>): Promise<T> {
    try {
      const value = await work();
      if (!note.kind.startsWith("capsule.")) this.#tell(caller, note);
      this.ground.audit.note(caller, deedOf(note));
      return value;
    } catch (thrown) {
      const error = WrennError.from(thrown);
      if (note.kind !== "capsule.create") this.#tell(caller, { ...note, error: error.message.slice(0, maxTextLength) });
      this.ground.audit.note(caller, { ...deedOf(note), status: "error", metadata: { code: error.code } });
      throw thrown;
    }
  }

  /** Subscribes; what is committed after this resolved will be heard. Answers how to stop. */
  async subscribe(subscriber: Subscriber): Promise<() => void> {
    this.#listening ??= this.ground.store
      .listen(
        (note) => this.#heard(note),
        () => this.close(),
      )
      .catch((thrown) => {
        this.#listening = undefined;
        throw thrown;
      });
    await this.#listening;
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }

  /** Ends every subscription; who wants more subscribes again. */
  close(): void {
    for (const subscriber of this.#subscribers) subscriber.ended();
    this.#subscribers.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await (await this.#listening)?.[Symbol.asyncDispose]();
    await this.#queue;
  }

  /** Nobody waits for this: an action is done whether or not it is told. */
  #tell(caller: Caller, note: Told): void {
    const { type, id, name } = caller.actor;
    const actor = { type, id, name: name.slice(0, maxTextLength) };
    this.ground.tasks.start(() => this.ground.store.append({ ...note, team: caller.team, actor }));
  }

  #heard(note: Note): void {
    if (this.#of(note.team).length === 0) return;
    this.#queue = this.#queue
      .then(() => this.#pass(note))
      .catch((err) => {
        this.ground.log.warn({ err }, "an event could not be told");
        this.close();
      });
  }

  async #pass(note: Note): Promise<void> {
    const told = await this.complete(note);
    for (const subscriber of this.#of(note.team)) subscriber.heard(told);
  }

  /** An event with its sandbox as it is now. */
  async complete(note: Note): Promise<Happening> {
    const row = note.kind.startsWith("capsule.") ? await this.ground.sandboxes.find(note.id as SandboxId) : undefined;
    const names = await this.ground.snapshots.names(row ? [row.origin] : []);
    return { ...note, row, names };
  }

  /** A team's events, as the filter asks. */
  list(team: string, filter: EventFilter): Promise<Note[]> {
    return this.ground.store.list(team, filter);
  }

  #of(team: string): Subscriber[] {
    return [...this.#subscribers].filter((subscriber) => subscriber.team === team);
  }
}

/** An action as the audit log has it (Wrenn control plane 9). */
function deedOf({ kind, id }: Pick<Note, "kind" | "id">): Deed {
  const isCapsule = kind.startsWith("capsule.");
  const action = kind.split(".").at(-1)!;
  const status = action === "destroy" || action === "delete" ? "warning" : "success";
  const resource = { type: isCapsule ? "sandbox" : "snapshot", id: isCapsule ? capsuleId(id as SandboxId) : id };
  return { resource, action, status };
}
