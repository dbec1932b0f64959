import { expect, test } from "bun:test";
import { freshDatabase } from "../../packages/control/test/support/postgres.ts";
import { TestFleet } from "./fleet.ts";

/** A span as OTLP/HTTP has it in JSON (OpenTelemetry protocol, "ResourceSpans"), with the service that sent it. */
type Sent = { service: string; name: string; traceId: string; spanId: string; parentSpanId?: string; facts: object };

/** A collector: what programs send to `/v1/traces`. */
function startCollector() {
  const spans: Sent[] = [];
  type Value = { stringValue?: string; intValue?: number };
  type Attributes = { key: string; value: Value }[];
  const facts = (all: Attributes) =>
    Object.fromEntries(all.map(({ key, value }) => [key, value.stringValue ?? value.intValue]));
  type Body = {
    resourceSpans: {
      resource: { attributes: Attributes };
      scopeSpans: { spans: (Sent & { attributes: Attributes })[] }[];
    }[];
  };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      if (new URL(request.url).pathname !== "/v1/traces") return new Response(null, { status: 404 });
      for (const { resource, scopeSpans } of ((await request.json()) as Body).resourceSpans)
        for (const { attributes, ...span } of scopeSpans.flatMap((scope) => scope.spans))
          spans.push({
            ...span,
            service: facts(resource.attributes)["service.name"] as string,
            facts: facts(attributes),
          });
      return Response.json({});
    },
  });
  const find = async (service: string, name: string, of: (span: Sent) => boolean): Promise<Sent> => {
    for (;;) {
      const found = spans.find((span) => span.service === service && span.name === name && of(span));
      if (found) return found;
      await Bun.sleep(20);
    }
  };
  return { url: `http://127.0.0.1:${server.port}`, find, [Symbol.asyncDispose]: () => server.stop(true) };
}

test("a trace leads from the client through the server to the host agent, with one request id", async () => {
  await using collector = startCollector();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: "50" };
  await using fleet = await TestFleet.start({ databaseUrl: await freshDatabase(), planes: 1, agents: 1, env });
  const [traceId, parent, requestId] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "traced-1"];
  const sent = { traceparent: `00-${traceId}-${parent}-01`, "x-request-id": requestId };
  const answer = await fleet.fetch(0, "POST", "/v1/capsules", {}, sent);
  expect(answer.status).toBe(201);
  const asked = await collector.find("wrenn-cp", "POST /v1/capsules", (span) => span.traceId === traceId);
  expect(asked).toMatchObject({ parentSpanId: parent, facts: { "wrenn.request_id": requestId } });
  expect(asked.facts).toMatchObject({ "http.response.status_code": 201 });
  const call = await collector.find("wrenn-cp", "host CreateSandbox", (span) => span.traceId === traceId);
  expect(call).toMatchObject({ parentSpanId: asked.spanId, facts: { "wrenn.host": fleet.hosts[0] } });
  const made = await collector.find("wrenn-agent", "CreateSandbox", (span) => span.traceId === traceId);
  expect(made).toMatchObject({ parentSpanId: call.spanId, facts: { "wrenn.request_id": requestId } });
  expect((await fleet.fetch(0, "GET", `/v1/capsules/cl-${"0".repeat(25)}`, undefined, sent)).status).toBe(404);
  const missed = await collector.find("wrenn-cp", "GET /v1/capsules/:id", (span) => span.traceId === traceId);
  expect(missed.facts).toMatchObject({ "http.response.status_code": 404 });
}, 180_000);
