import { type rest, WrennError } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";
import { errorOf } from "./errors.ts";
import { pathOf } from "./lifecycle.ts";
import { blocks, type FollowOptions } from "./server-events.ts";

/** What of a log is wanted. */
export type LogOptions = CallOptions & {
  /** Entries after the one with this cursor; default the newest ones. */
  cursor?: number | undefined;
  /** Most entries of one answer, 1 to 1000; default 200. */
  limit?: number | undefined;
  /** At least this grave; default `info`. */
  level?: "debug" | "info" | "warn" | "error" | undefined;
};

/** Something that happened in or around a sandbox. */
export type LogEntry = {
  cursor: number;
  at: Date;
  level: "debug" | "info" | "warn" | "error";
  /** Its life, a command in it, or what its kernel prints. */
  source: "host" | "process" | "console";
  message: string;
  fields: Record<string, string>;
};

/** Pause before a connection that was lost is opened again. */
const retryMs = 1_000;

/**
 * Entries of a sandbox's log, oldest first.
 * @internal
 */
export async function readLog(client: Api, id: string, options: LogOptions): Promise<LogEntry[]> {
  const call = { signal: options.signal, requestTimeoutMs: options.requestTimeoutMs };
  return (await client.request<rest.CapsuleLogs>("GET", `${pathOf(id)}/logs?${query(options)}`, call)).entries.map(
    entry,
  );
}

/**
 * Entries of a sandbox's log as they come, until the sandbox is gone or `signal` aborts. A connection that is lost is
 * opened again where it ended, so that nothing is missed or told twice.
 * @internal
 */
export async function* followLog(
  client: Api,
  id: string,
  options: LogOptions & FollowOptions,
): AsyncGenerator<LogEntry, void> {
  const { signal, onLost } = options;
  let { cursor } = options;
  while (!signal?.aborted) {
    try {
      const path = `${pathOf(id)}/logs?${query({ ...options, cursor })}&follow=true`;
      const response = await client.send(path, { headers: { Accept: "text/event-stream" }, ...(signal && { signal }) });
      if (!response.ok || !response.body) throw await errorOf(response);
      for await (const block of blocks(response.body)) {
        if (/^event: end$/m.test(block)) return;
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data === undefined) continue;
        const one = entry(JSON.parse(data) as rest.LogEntry);
        cursor = one.cursor;
        yield one;
      }
    } catch (thrown) {
      if (signal?.aborted) return;
      if (thrown instanceof WrennError && thrown.status < 500) throw thrown;
      onLost?.(thrown);
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

function query({ cursor, limit, level }: LogOptions): URLSearchParams {
  return new URLSearchParams({
    ...(cursor === undefined ? {} : { cursor: String(cursor) }),
    ...(limit === undefined ? {} : { limit: String(limit) }),
    ...(level === undefined ? {} : { level }),
  });
}

const entry = ({ timestamp, fields, ...same }: rest.LogEntry): LogEntry => ({
  ...same,
  at: new Date(timestamp),
  fields: fields ?? {},
});
