import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Builds } from "../../services/builds/builds.ts";
import type { BuildRow } from "../../store/schema/index.ts";
import { type App, endpoint } from "../endpoint.ts";
import { build, logLine } from "./present.ts";

const ListQuery = z.object({
  template: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
const LogQuery = z.object({ after: z.coerce.number().int().min(0).default(0) });

/** How often the log of a build under way is read for who follows it. */
const followMs = 200;

/** `/v1/builds`: how builds go on. */
export function buildRoutes(app: App, builds: Builds, keepAliveMs: number): void {
  const show = async (row: BuildRow) => build(row, await builds.templateName(row));
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/builds",
      summary: "List the team's builds, newest first.",
      query: ListQuery,
      status: 200,
      answer: z.array(rest.Build),
      codes: ["not_found"],
    },
    async ({ caller, query }) => Promise.all((await builds.list(caller, query.template, query.limit)).map(show)),
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/builds/{build}",
      summary: "One of them.",
      status: 200,
      answer: rest.Build,
      codes: ["not_found"],
    },
    async ({ caller, c }) => show(await builds.get(caller, c.req.param("build")!)),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/builds/{build}/cancel",
      summary: "End a build; the template's former version stays.",
      status: 204,
      codes: ["not_found", "invalid_state"],
    },
    async ({ caller, c }) => builds.cancel(caller, c.req.param("build")!),
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/builds/{build}/logs",
      summary:
        "Lines of its log behind `after`; with `Accept: text/event-stream`, all lines as they come until it is over.",
      query: LogQuery,
      status: 200,
      answer: rest.BuildLog,
      codes: ["not_found"],
    },
    async ({ caller, query: { after }, c }) => {
      const id = c.req.param("build")!;
      const read = async (from: number) => {
        const { build: row, lines } = await builds.logs(caller, id, from);
        return { build: await show(row), lines: lines.map(logLine) };
      };
      if (!c.req.header("accept")?.includes("text/event-stream")) return await read(after);
      await builds.get(caller, id);
      const kept = { "cache-control": "no-store", "x-accel-buffering": "no" };
      const body = follow(read, { after, keepAliveMs, signal: c.req.raw.signal });
      return new Response(body, { headers: { "content-type": "text/event-stream", ...kept } });
    },
  );
}

type Read = (after: number) => Promise<{ build: rest.Build; lines: rest.BuildLogLine[] }>;
type Terms = { after: number; keepAliveMs: number; signal: AbortSignal };

/** Lines of a log as `log` events as they come, then the build as one `end` event. */
function follow(read: Read, { after, keepAliveMs, signal }: Terms): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const frame = (event: string, data: object) => encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  let [from, heard] = [after, performance.now()];
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      while (!signal.aborted) {
        const { build: row, lines } = await read(from);
        for (const line of lines) controller.enqueue(frame("log", line));
        from = lines.at(-1)?.seq ?? from;
        if (lines.length > 0) {
          heard = performance.now();
          return;
        }
        if (row.completed_at !== undefined) {
          controller.enqueue(frame("end", row));
          return controller.close();
        }
        if (performance.now() - heard > keepAliveMs) {
          heard = performance.now();
          return controller.enqueue(encoder.encode(": keep-alive\n\n"));
        }
        await Bun.sleep(followMs);
      }
      controller.close();
    },
  });
}
