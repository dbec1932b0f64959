import { capsuleId, type SandboxId } from "@wrenn/contract";
import type { Caller } from "../services/caller.ts";
import type { Events, Happening } from "../services/events.ts";
import { type App, endpoint } from "./endpoint.ts";
import { capsule } from "./present.ts";

/** Text that may wait for a client, bytes; one that is further behind is cut off, since what it missed is not kept. */
const maxWaitingBytes = 1024 * 1024;

/** `/v1/events/stream`: what happens in the team, as server-sent events (Wrenn REST API 15). */
export function eventRoutes(app: App, events: Events, keepAliveMs: number): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/events/stream",
      summary: "Server-sent events of the team: actions with their outcome, and every change of state.",
      status: 200,
      answer: "text/event-stream",
    },
    async ({ caller, c }) => {
      const body = await follow(caller, events, { keepAliveMs, signal: c.req.raw.signal });
      // Proxies between would gather events otherwise.
      const kept = { "cache-control": "no-store", "x-accel-buffering": "no" };
      return new Response(body, { headers: { "content-type": "text/event-stream", ...kept } });
    },
  );
}

type Terms = { keepAliveMs: number; signal: AbortSignal };

async function follow(caller: Caller, events: Events, { keepAliveMs, signal }: Terms): Promise<ReadableStream> {
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
  const unsubscribe = await events.subscribe({ team: caller.team, heard: (event) => send(frame(event)), ended: end });
  const timer = setInterval(() => send(": keep-alive\n\n"), keepAliveMs);
  stop = () => {
    clearInterval(timer);
    unsubscribe();
  };
  signal.addEventListener("abort", end, { once: true });
  send(connected(caller));
  return stream;
}

const lines = (event: string, data: object): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

function connected({ team, actor }: Caller): string {
  const event = "connected";
  const resource = { id: team, type: "team" };
  return lines(event, { event, resource, actor, metadata: {}, timestamp: new Date().toISOString() });
}

function frame({ kind, id, actor, error, from, to, reason, at, row, names }: Happening): string {
  const isCapsule = kind.startsWith("capsule.");
  const isAction = kind !== "capsule.state.changed";
  return lines(kind, {
    event: kind,
    ...(isAction && { outcome: error === undefined ? "success" : "error" }),
    resource: isCapsule ? { id: capsuleId(id as SandboxId), type: "capsule" } : { id, type: "snapshot" },
    actor: actor ?? { type: "system", id: "", name: "" },
    metadata: { ...(from && { from }), ...(to && { to }), ...(reason && { reason }) },
    ...(error !== undefined && { error }),
    ...(row && { sandbox: capsule(row, names) }),
    timestamp: at.toISOString(),
  });
}
