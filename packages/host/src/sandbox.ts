import { type Event, type SandboxId, type State, step, WrennError } from "@wrenn/contract";
import type { Journal } from "./journal.ts";
import type { Machine } from "./machine.ts";
import type { SandboxRecord } from "./record.ts";

/** What a sandbox holds in its state: only a running one has a VM to use. */
export type Phase = { readonly at: "running"; readonly machine: Machine } | { readonly at: Exclude<State, "running"> };

/** Called after every change, with the row as it is then. */
export type Changed = (record: Readonly<SandboxRecord>) => void;

/** One sandbox of this host: its row, what it holds, and the queue in which its recipes run. */
export class Sandbox {
  phase: Phase;
  /** Requests under way to the guest: while there are any, it is not idle. */
  activeRequests = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    readonly record: SandboxRecord,
    readonly journal: Journal,
    readonly changed: Changed,
  ) {
    this.phase = record.state === "running" ? { at: "missing" } : { at: record.state };
  }

  get id(): SandboxId {
    return this.record.id;
  }

  /** Runs `recipe` when the recipes before it have ended, whichever way. */
  exclusive<T>(recipe: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(recipe, recipe);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Whether `event` can happen now. */
  can(event: Event): boolean {
    return step(this.record.state, event) !== undefined;
  }

  /** The state after `event`. Throws `invalid_state` with the state found. */
  expect(event: Event): State {
    const { id, state } = this.record;
    const to = step(state, event);
    if (to) return to;
    throw new WrennError("invalid_state", `the sandbox is ${state}`, {
      remedy: state === "paused" ? "Resume it first." : "Wait until it is running, or create another.",
      details: { id, state, wanted: event },
    });
  }

  /** Makes `event` happen: writes the new state with `facts` to the journal, then tells. Throws `invalid_state`. */
  move(event: Event, facts: Partial<SandboxRecord> = {}, machine?: Machine): void {
    const to = this.expect(event);
    if (to === "running" && !machine) throw new Error("a running sandbox holds a VM");
    this.note({ reason: "", ...facts, state: to, version: this.record.version + 1 });
    this.phase = to === "running" ? { at: to, machine: machine! } : { at: to };
    this.changed(this.record);
  }

  /** Writes facts to the journal without a change of state: intents and handles, before the effect they tell of. */
  note(facts: Partial<SandboxRecord>): void {
    this.journal.sandboxes.put({ ...this.record, ...facts }); // first: what cannot be written down has not happened
    Object.assign(this.record, facts);
  }

  /** As `note`, for facts that watchers want to know. */
  tell(facts: Partial<SandboxRecord>): void {
    this.note({ ...facts, version: this.record.version + 1 });
    this.changed(this.record);
  }

  /** What it holds while it runs. Throws `invalid_state` in any other state. */
  get machine(): Machine {
    if (this.phase.at === "running") return this.phase.machine;
    this.expect("pause"); // throws: only a running sandbox can be paused
    throw new WrennError("invalid_state", "the sandbox is not running");
  }

  /** Marks activity: the inactivity time starts anew. */
  touch(): void {
    this.record.lastActiveAtMs = Date.now();
  }
}
