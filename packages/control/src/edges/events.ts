import { capsuleId, parseSandboxId, rest, type SandboxId, WrennError } from "@wrenn/contract";
import { z } from "zod";
import { needAdmin } from "../services/access.ts";
import type { Caller } from "../services/caller.ts";
import type { Events, Happening } from "../services/events.ts";
import type { Services } from "../services/index.ts";
import { eventKinds, isCursor } from "../store/events.ts";
import { localTeam } from "../store/keys.ts";
import { type App, endpoint } from "./endpoint.ts";
import { capsule } from "./present.ts";

/** Text that may wait for a client, bytes; one that is further behind is cut off, since what it missed is not kept. */
const maxWaitingBytes = 1024 * 1024;

/** What a follower who was away for a while is told at most; one who was away longer reads the list. */
const maxMissed = 1_000;

const kind = z
  .string()
  .refine((text) => text.split(",").every((one) => (eventKinds as readonly string[]).includes(one)), {
    error: `one or more of ${eventKinds.join(", ")}`,
  });
const cursor = z.string().refine(isCursor, { error: "the cursor of an event" });
const EventQuery = z.object({
  kind: kind.optional().meta({ description: "One or more kinds, separated by commas." }),
  resource: z.string().max(100).optional().meta({ description: "Id of a sandbox or host, or name of a snapshot." }),
  order: z.enum(["asc", "desc"]).default("desc"),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
  cursor: cursor.optional().meta({ description: "The `X-Next-Cursor` of the answer before, or any event's." }),
});

/** What a stream tells of beside events. */
const StreamQuery = z.object({
  changes: z.enum(["team", "all"]).optional().meta({
    description:
      "Tells also, as `changed`, of which type something was changed, so that a list of these can be read again: in the team, or for an administrator in all teams.",
  }),
});

type Watched = Pick<Services, "events" | "access" | "deeds">;

/** `/v1/events`: what happened in the team, and what happens, as server-sent events (Wrenn REST API 15). */
export function eventRoutes(app: App, services: Watched, keepAliveMs: number): void {
  const { events } = services;
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/events", status: 200, query: EventQuery, answer: z.array(rest.TeamEvent) },
      summary: "Events of the team, newest first; X-Next-Cursor leads on.",
    },
    async ({ caller, query, c }) => {
      const { limit, order, cursor: after } = query;
      const resource = query.resource && (parseSandboxId(query.resource) ?? query.resource);
      const found = await events.list(caller.team, { kinds: query.kind?.split(","), resource, order, after, limit });
      if (found.length === limit) c.header("X-Next-Cursor", found.at(-1)!.cursor);
      return found.map((note) => show({ ...note, names: new Map() }));
    },
  );
  streamRoute(app, services, keepAliveMs);
}

function streamRoute(app: App, services: Watched, keepAliveMs: number): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/events/stream",
      summary: "Server-sent events of the team: actions with their outcome, and every change of state.",
      status: 200,
      query: StreamQuery,
      answer: "text/event-stream",
      headers: z.object({
        "Last-Event-ID": z.string().optional().meta({ description: "Begin after this event, which was heard before." }),
      }),
      codes: ["invalid_request"],
    },
    async ({ caller, query: { changes }, c }) => {
      if (changes === "all") needAdmin(caller);
      const since = c.req.header("last-event-id");
      if (since !== undefined && !isCursor(since))
        throw new WrennError("invalid_request", "The header Last-Event-ID is not an event's.", {
          remedy: "Send the id of the last event that was heard, or leave it out.",
        });
      const { raw } = c.req;
      const ended = new AbortController();
      // Who loses access hears no more.
      const { access } = services;
      const open = async () => {
        const now = await access.open(raw, caller.requestId);
        if (changes === "all") needAdmin(now);
        return now;
      };
      const unwatch = access.watch(open, () => ended.abort());
      raw.signal.addEventListener("abort", unwatch, { once: true });
      const body = await follow(caller, services, {
        keepAliveMs,
        since,
        changes,
        signal: AbortSignal.any([raw.signal, ended.signal]),
      });
      // Proxies between would gather events otherwise.
      const kept = { "cache-control": "no-store", "x-accel-buffering": "no" };
      return new Response(body, { headers: { "content-type": "text/event-stream", ...kept } });
    },
  );
}

type Terms = {
  keepAliveMs: number;
  since: string | undefined;
  changes: "team" | "all" | undefined;
  signal: AbortSignal;
};

async function follow(caller: Caller, services: Watched, terms: Terms): Promise<ReadableStream> {
  const { events } = services;
  const { keepAliveMs, since, changes, signal } = terms;
  const encoder = new TextEncoder();
  let control: ReadableStreamDefaultController<Uint8Array> | undefined;
  let stop = () => {};
  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        control = controller;
      },
      cancel: () => stop(),
    },
    { highWaterMark: maxWaitingBytes, size: (chunk) => chunk?.byteLength ?? 0 },
  );
  const end = () => {
    stop();
    try {
      control?.close();
    } catch {
      // The client has gone, and the stream with it.
    }
  };
  const send = (text: string) => {
    if ((control?.desiredSize ?? 0) > 0) return control?.enqueue(encoder.encode(text));
    stop();
    control?.error(new Error("the client does not read its events")); // breaks off: it must not look complete
  };
  /** What happens while what was missed is read, which comes first. */
  let waiting: Happening[] | undefined = since === undefined ? undefined : [];
  /** What was heard before or is read as missed: its notification may come at any time after. */
  let told: ReadonlySet<string> = new Set();
  const heard = (event: Happening): void => {
    if (waiting) waiting.push(event);
    else if (!told.has(event.cursor)) send(frame(event));
  };
  const unsubscribe = await events.subscribe({ team: caller.team, heard, ended: end });
  const unwatch = changes ? await watchChanges(caller, services, { changes, send, end }) : () => {};
  const timer = setInterval(() => send(": keep-alive\n\n"), keepAliveMs);
  stop = () => {
    clearInterval(timer);
    unsubscribe();
    unwatch();
  };
  signal.addEventListener("abort", end, { once: true });
  send(connected(caller));
  if (since !== undefined) {
    const past = await pastOf(caller, events, since);
    told = past.told;
    for (const note of past.missed) send(frame(await events.complete(note)));
    const meanwhile = waiting ?? [];
    waiting = undefined;
    for (const event of meanwhile) heard(event);
  }
  return stream;
}

type Sink = { changes: "team" | "all"; send(text: string): unknown; end(): void };

/** Sends what changes. An administrator hears also of every sandbox of the installation, which no other stream tells. */
async function watchChanges({ team }: Caller, { events, deeds }: Watched, sink: Sink): Promise<() => void> {
  const { changes, send, end } = sink;
  const heard = (of: string, resource: string) => void send(changed(of, resource));
  const unwatch = deeds.watch({ team: changes === "all" ? "all" : team, heard });
  if (changes === "team") return unwatch;
  const own = { team: localTeam.id, heard: () => heard(localTeam.id, "sandbox"), ended: end };
  const unsubscribe = await events.subscribe(own);
  return () => {
    unwatch();
    unsubscribe();
  };
}

/** What a follower missed after `since`, and the places of all that it was, or is to be, told of. */
async function pastOf({ team }: Caller, events: Events, since: string) {
  // What commits from here on is heard, so even what an earlier event may still follow is part of the past.
  const terms = { after: since, limit: maxMissed, withUnsettled: true };
  const before = await events.list(team, { order: "desc", ...terms });
  const missed = await events.list(team, { order: "asc", ...terms });
  return { missed, told: new Set([since, ...[...before, ...missed].map(({ cursor }) => cursor)]) };
}

const lines = (event: string, data: object): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

function changed(team: string, type: string): string {
  const event = "changed";
  const actor = { type: "system", id: "", name: "" };
  return lines(event, {
    event,
    resource: { id: team, type },
    actor,
    metadata: {},
    timestamp: new Date().toISOString(),
  });
}

function connected({ team, actor }: Caller): string {
  const event = "connected";
  const resource = { id: team, type: "team" };
  return lines(event, { event, resource, actor, metadata: {}, timestamp: new Date().toISOString() });
}

function frame(event: Happening): string {
  const { row, names } = event;
  return `id: ${event.cursor}\n${lines(event.kind, { ...show(event), ...(row && { sandbox: capsule(row, names) }) })}`;
}

function show({ cursor, kind, id, actor, error, from, to, reason, at }: Happening): rest.TeamEvent {
  const isAction = kind.startsWith("template.") || (kind.startsWith("capsule.") && kind !== "capsule.state.changed");
  return {
    cursor,
    event: kind,
    ...(isAction && { outcome: error === undefined ? ("success" as const) : ("error" as const) }),
    resource: kind.startsWith("capsule.")
      ? { id: capsuleId(id as SandboxId), type: "capsule" }
      : { id, type: kind.startsWith("host.") ? "host" : "snapshot" },
    actor: actor ?? { type: "system", id: "", name: "" },
    metadata: { ...(from && { from }), ...(to && { to }), ...(reason && { reason }) },
    ...(error !== undefined && { error }),
    timestamp: at.toISOString(),
  };
}
