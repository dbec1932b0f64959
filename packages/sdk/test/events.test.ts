import { afterEach, expect, test } from "bun:test";
import { Sandbox, Wrenn, type WrennEvent } from "wrenn";

const id = `cl-${"0".repeat(25)}`;
const frame = (event: string, more: object = {}) =>
  `event: ${event}\ndata: ${JSON.stringify({
    event,
    resource: { id, type: "capsule" },
    actor: { type: "system", id: "", name: "" },
    timestamp: "2026-01-02T03:04:05.000Z",
    ...more,
  })}\n\n`;

/** Each connection gets the next of these: pieces of text, or a status. */
let script: (string[] | number)[];
let keys: (string | null)[];
let server: ReturnType<typeof Bun.serve>;
afterEach(() => server.stop(true));

function serve(...connections: (string[] | number)[]): Wrenn {
  script = connections;
  keys = [];
  server = Bun.serve({
    port: 0,
    fetch(request) {
      keys.push(request.headers.get("x-api-key"));
      const next = script.shift() ?? [];
      if (typeof next === "number")
        return Response.json(
          { error: { code: next === 401 ? "unauthorized" : "unavailable", message: "no" } },
          { status: next },
        );
      const body = new ReadableStream({
        async start(controller) {
          for (const piece of next) {
            controller.enqueue(new TextEncoder().encode(piece));
            await Bun.sleep(1);
          }
          if (script.length > 0) controller.close();
        },
      });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    },
  });
  return new Wrenn({ baseUrl: `http://127.0.0.1:${server.port}`, apiKey: "wrn_1" });
}

async function take(client: Wrenn, count: number): Promise<WrennEvent[]> {
  const found: WrennEvent[] = [];
  const stop = new AbortController();
  for await (const event of client.events({ signal: stop.signal })) {
    found.push(event);
    if (found.length === count) stop.abort();
  }
  return found;
}

test("events are read however the network cuts them, comments left out", async () => {
  const text = `: hello\n\n${frame("connected")}${frame("capsule.state.changed", { metadata: { from: "running", to: "paused" } })}`;
  const found = await take(serve([...text]), 2);
  expect(found.map(({ kind }) => kind)).toEqual(["connected", "capsule.state.changed"]);
  expect(found[1]).toMatchObject({
    metadata: { to: "paused" },
    resource: { id },
    at: new Date("2026-01-02T03:04:05Z"),
  });
});

test("a lost connection and a server that is away are followed by a new one, which begins with connected", async () => {
  const found = await take(serve([frame("connected"), frame("capsule.create")], 503, [frame("connected")]), 3);
  expect(found.map(({ kind }) => kind)).toEqual(["connected", "capsule.create", "connected"]);
  expect(keys).toEqual(["wrn_1", "wrn_1", "wrn_1"]);
});

test("what a follower of a network hears is each state of it, and what went wrong between", async () => {
  const told = (count: number) => {
    const policy = { internet: true, allow: [], deny: [], rules: {} };
    const flow = { ip: "203.0.113.1", port: 443, protocol: "tcp", count, last_at: "2026-01-02T03:04:05Z" };
    const data = { sandbox_id: id, policy, detail: "", connections: [flow], denials: [] };
    return `event: network\ndata: ${JSON.stringify(data)}\n\n`;
  };
  const client = serve([told(1), ": keep-alive\n\n"], 503, [told(2), "event: end\ndata: {}\n\n"]);
  const [counts, lost]: [number[], unknown[]] = [[], []];
  for await (const { connections } of Sandbox.followNetwork(id, { client, onLost: (why) => lost.push(why) }))
    counts.push(connections[0]!.count);
  expect(counts).toEqual([1, 2]);
  expect(lost).toEqual([expect.objectContaining({ status: 503 })]);
});

test("a key that the server does not know ends it", async () => {
  await expect(take(serve(401), 1)).rejects.toMatchObject({ code: "unauthorized" });
});

test("a client that signs requests itself needs no key", async () => {
  const seen: Headers[] = [];
  const answerEmpty = (request: Request) => {
    seen.push(request.headers);
    return Response.json([]);
  };
  server = Bun.serve({ port: 0, fetch: answerEmpty });
  const client = new Wrenn({
    baseUrl: `http://127.0.0.1:${server.port}`,
    apiKey: "wrn_1",
    authorize: () => ({ "X-Session": "s" }),
  });
  expect(await client.list({ states: ["running", "paused"], limit: 5 })).toEqual({ sandboxes: [], next: undefined });
  expect([seen[0]?.get("x-session"), seen[0]?.get("x-api-key")]).toEqual(["s", null]);
});
