import { type rest, WrennError } from "@wrenn/contract";
import type { Api } from "./api.ts";
import { errorOf } from "./errors.ts";
import { type SandboxInfo, sandboxInfo } from "./lifecycle.ts";
import { blocks, type FollowOptions } from "./server-events.ts";

/** Something that happened in the team. */
export type WrennEvent = {
  /** Such as `capsule.create` or `capsule.state.changed`; `connected` stands at the begin of every connection. */
  kind: string;
  /** Of actions only. */
  outcome: "success" | "error" | undefined;
  resource: { id: string; type: string };
  actor: { type: string; id: string; name: string };
  metadata: Record<string, string>;
  error: string | undefined;
  /** The sandbox as it was when this was told. */
  sandbox: SandboxInfo | undefined;
  at: Date;
};

/** How events are followed. */
export type EventOptions = FollowOptions & {
  /**
   * Tells also, as kind `changed` with the type in `resource`, of which type something was changed, so that a list of
   * these can be read again: in the team, or for an administrator in all teams.
   */
  changes?: "team" | "all" | undefined;
};

/** An event on the wire (Wrenn REST API 15). */
type Wire = Omit<WrennEvent, "kind" | "sandbox" | "at"> & { event: string; sandbox?: rest.Capsule; timestamp: string };

/** Pauses between attempts: at once for a server that restarts, then calm. */
const retryMs = [250, 500, 1_000, 2_000, 5_000];

/** The server says something every 15 s; a connection that is quiet for three times as long is dead. */
const silentMs = 45_000;

/**
 * What happens in the team, for as long as the program listens: a connection that is lost is opened again. What happened
 * between is not told, so a program that keeps a copy reads everything anew at each event of kind `connected`.
 * Throws when the server refuses, for example an unknown key.
 */
export async function* follow(client: Api, options: EventOptions = {}): AsyncGenerator<WrennEvent> {
  const { signal, onLost } = options;
  for (let attempt = 0; !signal?.aborted; attempt++) {
    try {
      for await (const event of connection(client, options)) {
        attempt = 0;
        yield event;
      }
      onLost?.(undefined);
    } catch (thrown) {
      if (signal?.aborted) return;
      if (thrown instanceof WrennError && thrown.status >= 400 && thrown.status < 500) throw thrown;
      onLost?.(thrown);
    }
    await pause(retryMs[Math.min(attempt, retryMs.length - 1)]!, signal);
  }
}

async function* connection(client: Api, { signal, changes }: EventOptions): AsyncGenerator<WrennEvent> {
  const silence = new AbortController();
  const quiet = setTimer(silence);
  try {
    const response = await client.send(`/v1/events/stream${changes ? `?changes=${changes}` : ""}`, {
      headers: { Accept: "text/event-stream" },
      signal: signal ? AbortSignal.any([signal, silence.signal]) : silence.signal,
    });
    if (!response.ok || !response.body) throw await errorOf(response);
    for await (const block of blocks(response.body, quiet.again)) {
      const data = /^data: ?(.*)$/m.exec(block)?.[1];
      if (data) yield eventOf(JSON.parse(data) as Wire);
    }
  } finally {
    quiet.end();
  }
}

function setTimer(silence: AbortController) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = () => clearTimeout(timer);
  const again = () => {
    end();
    timer = setTimeout(() => silence.abort(new Error("the server went silent")), silentMs);
  };
  again();
  return { again, end };
}

function eventOf({ event, sandbox, timestamp, ...rest }: Wire): WrennEvent {
  return {
    kind: event,
    outcome: rest.outcome,
    resource: rest.resource,
    actor: rest.actor,
    metadata: rest.metadata ?? {},
    error: rest.error,
    sandbox: sandbox ? sandboxInfo(sandbox) : undefined,
    at: new Date(timestamp),
  };
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const wake = () => {
      clearTimeout(timer);
      resolve();
    };
    signal?.addEventListener("abort", wake, { once: true });
  });
}
