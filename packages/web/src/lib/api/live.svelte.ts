import { type SandboxInfo, type State, WrennError, type WrennEvent } from "wrenn";
import { shortId } from "#lib/ui/format.ts";
import { pastEvents } from "./history.ts";
import { whileSeen } from "./seen.ts";
import { session } from "./session.svelte.ts";

/** Events that are kept for the status bar and the home page. */
const keptEvents = 300;
/** A burst of events changes the page once. */
const settleMs = 50;
/** Pause before a list that could not be read is asked for again. */
const againMs = 2_000;
/** Changes of one kind come in bursts, and what they tell of is read once for all of them. */
const changedMs = 300;
/** One page of the list; a fleet of ten thousand arrives in ten answers. */
const pageSize = 1_000;

/** States in which nothing is left of a sandbox. */
export const endedStates: readonly string[] = ["stopped", "error"];

/** Every sandbox of the team as it is now, kept by the event stream: nothing is asked for twice. */
class Live {
  /** Of the event stream. */
  connection = $state<"connecting" | "live" | "lost">("connecting");
  /** Newest first; undefined until the first list has come. */
  sandboxes = $state.raw<readonly SandboxInfo[] | undefined>(undefined);
  events = $state.raw<readonly WrennEvent[]>([]);
  error = $state.raw<unknown>(undefined);
  readonly #known = new Map<string, SandboxInfo>();
  readonly #listeners = new Set<(event: WrennEvent) => unknown>();
  #stop: (() => void) | undefined;
  #pending: ReturnType<typeof setTimeout> | undefined;

  /** Begins to follow; a second call changes nothing. */
  start(): void {
    if (this.#stop) return;
    this.#stop = whileSeen((signal) => void this.#follow(signal));
  }

  /** Ends the stream and forgets what was seen. */
  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
    this.#known.clear();
    this.sandboxes = undefined;
    this.events = [];
    this.connection = "connecting";
  }

  /** Calls `heard` for every event until the function that comes back is called. */
  on(heard: (event: WrennEvent) => unknown): () => void {
    this.#listeners.add(heard);
    return () => this.#listeners.delete(heard);
  }

  /**
   * Calls `again` when something of these types was changed in the team, or anywhere for an administrator, and when the
   * connection is there again after it was lost. Answers how to stop.
   */
  onChange(types: readonly string[] | "any", again: () => unknown): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isFirst = this.connection !== "live"; // what a page reads as it opens is as new as that
    const stop = this.on(({ kind, resource }) => {
      if (kind === "connected" && isFirst) isFirst = false;
      else if (kind === "connected" || (kind === "changed" && (types === "any" || types.includes(resource.type))))
        timer ??= setTimeout(() => {
          timer = undefined;
          again();
        }, changedMs);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }

  /** A sandbox as it is now; undefined when it is not known. */
  find(id: string): SandboxInfo | undefined {
    return this.sandboxes?.find((one) => one.id === id);
  }

  /** What a sandbox is called: its name, else the beginning of its id. */
  title(id: string): string {
    return this.find(id)?.name ?? shortId(id);
  }

  /** Takes a sandbox that the page has learnt otherwise, such as one it has just created. */
  take(sandbox: SandboxInfo): void {
    this.#known.set(sandbox.id, sandbox);
    this.#publish();
  }

  /** Until the signal aborts, or the server says that nobody is signed in here any more. */
  async #follow(signal: AbortSignal): Promise<void> {
    const onLost = (why: unknown) => this.#lost(why);
    const changes = session.me?.is_admin ? "all" : "team";
    while (!signal.aborted) {
      try {
        for await (const event of session.client.events({ signal, onLost, changes })) {
          if (event.kind === "connected") await this.#readAll(signal);
          else if (event.kind !== "changed") this.#heard(event);
          for (const heard of this.#listeners) heard(event);
        }
      } catch (thrown) {
        if (signal.aborted) return;
        if (thrown instanceof WrennError && thrown.code === "unauthorized") return void session.leave();
        this.#lost(thrown);
        await new Promise((resolve) => setTimeout(resolve, againMs));
      }
    }
  }

  #lost(why: unknown): void {
    this.connection = "lost";
    this.error = why;
  }

  /** Events that come meanwhile wait in the stream, so none of them is older than what is read here. */
  async #readAll(signal: AbortSignal): Promise<void> {
    const seen = new Set<string>();
    let cursor: string | undefined;
    do {
      const page = await session.client.list({ limit: pageSize, cursor, signal });
      for (const one of page.sandboxes) {
        seen.add(one.id);
        this.#known.set(one.id, one);
      }
      cursor = page.next;
      this.#publish();
    } while (cursor);
    for (const id of this.#known.keys()) if (!seen.has(id)) this.#known.delete(id);
    // What happened while nobody listened is not told, but kept.
    this.events = await pastEvents(keptEvents).catch(() => this.events);
    this.error = undefined;
    this.connection = "live";
    this.#publish();
  }

  #heard(event: WrennEvent): void {
    this.events = [event, ...this.events].slice(0, keptEvents);
    const { sandbox } = event;
    if (sandbox) this.#known.set(sandbox.id, sandbox);
    else if (event.kind === "capsule.state.changed") this.#moved(event.resource.id, event.metadata.to as State);
    this.#publish();
  }

  #moved(id: string, status: State | undefined): void {
    const known = this.#known.get(id);
    if (known && status) this.#known.set(id, { ...known, status });
  }

  #publish(): void {
    this.#pending ??= setTimeout(() => {
      this.#pending = undefined;
      this.sandboxes = [...this.#known.values()].sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime());
    }, settleMs);
  }
}

export const live = new Live();
