import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Builds } from "../../services/builds/builds.ts";
import type { Caller } from "../../services/caller.ts";
import type { BuildRow } from "../../store/schema/index.ts";
import { type App, endpoint } from "../endpoint.ts";
import { eventFrame, eventStream, keepAlive } from "../event-stream.ts";
import { followBuild, type ReadLog } from "./follow.ts";
import { build, logLine } from "./present.ts";

const ListQuery = z.object({
  template: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
const LogQuery = z.object({ after: z.coerce.number().int().min(0).default(0) });

const shown = async (builds: Builds, row: BuildRow) => build(row, await builds.templateName(row));

/** How a caller reads the log of a build. */
export const reading =
  (builds: Builds, caller: Caller, id: string): ReadLog =>
  async (after) => {
    const { build: row, lines } = await builds.logs(caller, id, after);
    return { build: await shown(builds, row), lines: lines.map(logLine) };
  };

/** `/v1/builds`: how builds go on. */
export function buildRoutes(app: App, builds: Builds, keepAliveMs: number): void {
  const show = (row: BuildRow) => shown(builds, row);
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
        "Lines of its log behind `after`; with `Accept: text/event-stream`, or as a WebSocket of JSON text frames, all lines as they come until it is over.",
      query: LogQuery,
      status: 200,
      answer: rest.BuildLog,
      codes: ["not_found"],
    },
    async ({ caller, query: { after }, c }) => {
      const id = c.req.param("build")!;
      const read = reading(builds, caller, id);
      if (!c.req.header("accept")?.includes("text/event-stream")) return await read(after);
      await builds.get(caller, id);
      return eventStream(asEvents(followBuild(read, { after, keepAliveMs, signal: c.req.raw.signal })));
    },
  );
}

/** The log as server-sent events. */
async function* asEvents(frames: AsyncGenerator<rest.BuildFrame, void>): AsyncGenerator<string, void> {
  for await (const frame of frames)
    if (frame.type === "end") yield eventFrame("end", frame.build);
    else if (frame.type === "log") {
      const { type: _, ...line } = frame;
      yield eventFrame("log", line);
    } else yield keepAlive;
}
