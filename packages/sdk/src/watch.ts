import { filesystem, WrennError } from "@wrenn/contract";
import type { Agent } from "./agent.ts";
import { fromAgentError } from "./errors.ts";

/** A change under a watched folder. */
export type WatchEvent = {
  /** Relative to the watched folder. */
  name: string;
  type: "create" | "write" | "remove" | "rename" | "chmod";
};

/** How a folder is watched. */
export type WatchOptions = {
  /** Whether subfolders are watched too, those made later included; default false. */
  recursive?: boolean | undefined;
  /** Called once when the watch ends: with the error that ended it, or without after `stop`. */
  onExit?: ((error?: Error) => unknown) | undefined;
};

type Opening = WatchOptions & {
  path: string;
  onEvent: (event: WatchEvent) => unknown;
  user?: string | undefined;
  signal?: AbortSignal | undefined;
};

const types: Partial<Record<filesystem.EventType, WatchEvent["type"]>> = {
  [filesystem.EventType.CREATE]: "create",
  [filesystem.EventType.WRITE]: "write",
  [filesystem.EventType.REMOVE]: "remove",
  [filesystem.EventType.RENAME]: "rename",
  [filesystem.EventType.CHMOD]: "chmod",
};

/** A watch in place. */
export class WatchHandle {
  readonly #stream: AbortController;

  private constructor(stream: AbortController) {
    this.#stream = stream;
  }

  /** Opens the stream; resolves with its first event, when the guest watches. */
  static async open(agent: Agent, opening: Opening): Promise<WatchHandle> {
    const { path, recursive = false, user, signal } = opening;
    signal?.throwIfAborted();
    const stream = new AbortController();
    const stop = () => stream.abort();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      const rpc = { headers: agent.stream(user), signal: stream.signal };
      const events = agent.filesystem.watchDir({ path, recursive }, rpc)[Symbol.asyncIterator]();
      const first = await events.next();
      if (first.value?.event.case !== "start")
        throw new WrennError("agent_error", "the guest agent sent no start event");
      void deliver(events, opening, stream.signal).finally(() => signal?.removeEventListener("abort", stop));
      return new WatchHandle(stream);
    } catch (thrown) {
      signal?.removeEventListener("abort", stop);
      throw fromAgentError(thrown, signal);
    }
  }

  /** Ends the watch. */
  stop(): void {
    this.#stream.abort();
  }
}

async function deliver(
  events: AsyncIterator<filesystem.WatchDirResponse>,
  { onEvent, onExit }: Opening,
  stopped: AbortSignal,
): Promise<void> {
  try {
    for (;;) {
      const { value, done } = await events.next();
      if (done) break;
      if (value.event.case !== "filesystem") continue;
      const type = types[value.event.value.type];
      if (type) await onEvent({ name: value.event.value.name, type });
    }
    await onExit?.();
  } catch (thrown) {
    const error = fromAgentError(thrown);
    await onExit?.(stopped.aborted || !(error instanceof Error) ? undefined : error);
  }
}
