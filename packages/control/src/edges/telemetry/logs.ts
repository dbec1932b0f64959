import { capsuleId, type hostagent, rest, type SandboxId } from "@wrenn/contract";
import type { z } from "zod";
import type { Caller } from "../../services/caller.ts";
import type { Telemetry } from "../../services/telemetry/telemetry.ts";
import { type App, endpoint } from "../endpoint.ts";
import { eventFrame, eventStream, keepAlive } from "../event-stream.ts";
import { untilGone } from "./gone.ts";

/** Between two questions to the host for a client that follows: what people still take for at once. */
const followEveryMs = 500;

/** Words of a log that proxies must see now and then, or they take the connection for dead. */
const keepAliveEvery = 30;

const levels = ["debug", "info", "warn", "error"] as const;

type Query = z.output<typeof rest.LogsQuery>;

/** `/v1/capsules/{id}/logs`: what happened in and around a sandbox. */
export function logRoutes(app: App, telemetry: Telemetry): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/{id}/logs",
      summary: "Log of a sandbox: its life, its commands, its kernel. With `follow=true` as server-sent events.",
      query: rest.LogsQuery,
      status: 200,
      answer: rest.CapsuleLogs,
      codes: ["host_unavailable", "agent_error"],
    },
    async ({ caller, id, query, c }) => {
      const first = await page(telemetry, caller, id, query);
      if (query.follow !== "true") return first;
      return eventStream(
        follow(first, (cursor) => page(telemetry, caller, id, { ...query, cursor }), c.req.raw.signal),
      );
    },
  );
}

async function page(telemetry: Telemetry, caller: Caller, id: SandboxId, query: Query): Promise<rest.CapsuleLogs> {
  const { cursor = 0, limit, level } = query;
  const found = await telemetry.logs(caller, id, { after: cursor, limit, newest: query.cursor === undefined });
  const next = Number(found.at(-1)?.cursor ?? cursor);
  const grave = found.filter((entry) => levels.indexOf(levelOf(entry)) >= levels.indexOf(level));
  return { sandbox_id: capsuleId(id), entries: grave.map(entry), next_cursor: next };
}

const levelOf = ({ level }: hostagent.LogEntry) => levels.find((one) => one === level) ?? "info";

function entry(from: hostagent.LogEntry): rest.LogEntry {
  return {
    cursor: Number(from.cursor),
    timestamp: new Date(Number(from.timestampMs)).toISOString(),
    level: levelOf(from),
    source: (["host", "process", "console"] as const).find((one) => one === from.source) ?? "host",
    message: from.message,
    ...(Object.keys(from.fields).length > 0 && { fields: { ...from.fields } }),
  };
}

/** The entries there are, then each new one, until the client goes or the sandbox is gone. */
async function* follow(
  first: rest.CapsuleLogs,
  next: (cursor: number) => Promise<rest.CapsuleLogs>,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  let { entries, next_cursor: cursor } = first;
  for (let quiet = 0; !signal.aborted; quiet++) {
    if (entries.length > 0) quiet = 0;
    for (const one of entries) yield `id: ${one.cursor}\n${eventFrame("log", one)}`;
    if (quiet % keepAliveEvery === 0) yield keepAlive;
    await Bun.sleep(followEveryMs);
    const found = await untilGone(next(cursor));
    if (!found) break;
    ({ entries, next_cursor: cursor } = found);
  }
  yield eventFrame("end", {});
}
