import { parseSandboxId, rest, WrennError } from "@wrenn/contract";
import type { Context } from "hono";
import { z } from "zod";
import type { Caller } from "../../services/caller.ts";
import type { Leases } from "../../services/e2b/leases.ts";
import { asWrennError } from "../../store/database.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import { onceOf } from "../capsules.ts";
import { check, type Env } from "../endpoint.ts";
import { readMetadata } from "./metadata.ts";
import { detail, listed, pausedStates, runningStates, type Shows, sandbox } from "./present.ts";
import {
  errorBody,
  maxPage,
  nextToken,
  pageQuery,
  type Routes,
  readToken,
  route,
  sandboxOf,
  tokenAfter,
} from "./route.ts";

/** Time to live where the client names none (E2B protocol, section 0), seconds. */
const defaultSec = { v1: 15, v2: 300 } as const;

const renewed = ({ timeout, memory }: z.output<typeof rest.e2b.Connect>, version: keyof typeof defaultSec) => ({
  timeoutSec: timeout ?? defaultSec[version],
  diskOnly: memory === false,
});

const State = z.enum(["running", "paused"]);
const states = { running: runningStates, paused: pausedStates } as const;
const ListQuery = z.object({
  metadata: z.string().optional(),
  state: z.string().optional(),
  startedAfter: z.iso.datetime({ offset: true }).optional(),
  template: z.string().optional(),
  order: z.enum(["asc", "desc"]).default("desc"),
  ...pageQuery,
});

/** What the SDKs start from, and call a program of, where a caller asks for `mcp` (E2B protocol, section 4). */
const gateway = "mcp-gateway";

/** Says of a template that the caller did not name what it was wanted for. */
function withoutGateway(thrown: unknown): never {
  const error = asWrennError(thrown);
  if (error.code !== "not_found" || error.details?.template !== gateway) throw thrown;
  throw new WrennError("not_found", "The option `mcp` needs a gateway in the sandbox, and none comes with Wrenn.", {
    remedy: `Start MCP servers with commands.run, or build a template "${gateway}" that has the program ${gateway}.`,
    details: error.details,
  });
}

/** `/sandboxes`: the life of sandboxes. */
export function sandboxRoutes(routes: Routes, leases: Leases, shows: Shows): void {
  for (const [path, version] of [
    ["/sandboxes", "v1"],
    ["/v2/sandboxes", "v2"],
  ] as const) {
    route(routes, `POST ${path}`, { status: 201, body: rest.e2b.NewSandbox }, async ({ caller, body, c }) => {
      const once = onceOf(c.req.raw.headers, { ...body, version });
      const made = leases.create(caller, body, body.timeout ?? defaultSec[version], once);
      return sandbox(await made.catch(withoutGateway), shows(c));
    });
    route(routes, `POST ${path}/:id/connect`, { body: rest.e2b.Connect }, async ({ caller, body, c }) => {
      const { row, resumed } = await leases.connect(caller, sandboxOf(c), renewed(body, version));
      return c.json(sandbox(row, shows(c)), resumed ? 201 : 200);
    });
  }
  route(routes, "POST /sandboxes/:id/resume", { status: 201, body: rest.e2b.Connect }, async ({ caller, body, c }) => {
    const row = await leases.resume(caller, sandboxOf(c), renewed(body, "v1"));
    return sandbox(row, shows(c));
  });
  route(routes, "GET /sandboxes/:id", {}, async ({ caller, c }) =>
    detail(await leases.get(caller, sandboxOf(c)), shows(c)),
  );
  route(routes, "DELETE /sandboxes/:id", {}, ({ caller, c }) => leases.kill(caller, sandboxOf(c)));
  route(routes, "POST /sandboxes/:id/pause", { body: rest.e2b.Pause }, async ({ caller, body, c }) => {
    const diskOnly = body.memory === false;
    // Without its memory it keeps only what a healthy guest has written to its disk.
    const onlyHealthy = diskOnly || (body.requireHealthyGuest ?? false);
    await leases.pause(caller, sandboxOf(c), { onlyHealthy, diskOnly });
  });
  route(routes, "POST /sandboxes/:id/fork", { status: 201, body: rest.e2b.Fork }, async ({ caller, body, c }) => {
    const forks = await leases.fork(caller, sandboxOf(c), body.count, body.timeout ?? defaultSec.v2);
    return forks.map((fork) =>
      fork.status === "fulfilled"
        ? { sandbox: sandbox(fork.value, shows(c)) }
        : { error: errorBody(asWrennError(fork.reason)) },
    );
  });
  route(routes, "PUT /sandboxes/:id/network", { body: rest.e2b.NetworkUpdate }, ({ caller, body, c }) =>
    leases.setNetwork(caller, sandboxOf(c), body),
  );
  times(routes, leases);
  lists(routes, leases);
}

function times(routes: Routes, leases: Leases): void {
  route(routes, "POST /sandboxes/:id/timeout", { body: rest.e2b.Timeout }, ({ caller, body, c }) =>
    leases.setTimeout(caller, sandboxOf(c), body.timeout),
  );
  route(routes, "POST /sandboxes/:id/refreshes", { body: rest.e2b.Refresh }, ({ caller, body, c }) =>
    leases.setTimeout(caller, sandboxOf(c), body.duration ?? defaultSec.v1, true),
  );
}

function lists(routes: Routes, leases: Leases): void {
  route(routes, "GET /v2/sandboxes", { query: ListQuery }, async ({ caller, query, c }) => {
    const { rows, running } = await leases.list(caller, filterOf(query));
    c.header("X-Total-Running", String(running));
    return page(c, rows, query.limit).map(listed);
  });
  const all = z.object({ metadata: z.string().optional() });
  route(routes, "GET /sandboxes", { query: all }, async ({ caller, query }) => {
    const filter = filterOf({ ...query, state: "running", limit: maxPage, order: "desc" });
    return (await everything(leases, caller, filter)).map(listed);
  });
}

/** Rows up to `limit`; one more tells that there is a next page. */
function page(c: Context<Env>, rows: readonly SandboxRow[], limit: number): SandboxRow[] {
  if (rows.length > limit) c.header(nextToken, tokenAfter(rows[limit - 1]!));
  return rows.slice(0, limit);
}

type Filter = ReturnType<typeof filterOf>;

function filterOf(query: z.output<typeof ListQuery>) {
  const { metadata, startedAfter, nextToken: token } = query;
  const shown = check(z.array(State), query.state ? query.state.split(",") : State.options, "query field state");
  const after = token ? readToken(token) : undefined;
  const id = after && parseSandboxId(after.id);
  return {
    states: shown.flatMap((state) => [...states[state]]),
    template: query.template,
    metadata: metadata === undefined ? undefined : readMetadata(metadata),
    createdFrom: startedAfter === undefined ? undefined : new Date(startedAfter),
    oldestFirst: query.order === "asc",
    limit: query.limit + 1,
    after: after && id ? { createdAt: after.createdAt, id } : undefined,
  };
}

/** The first version of the list has no pages. */
async function everything(leases: Leases, caller: Caller, filter: Filter): Promise<SandboxRow[]> {
  const rows: SandboxRow[] = [];
  for (let after = filter.after; ; after = rows.at(-1)) {
    const { rows: more } = await leases.list(caller, { ...filter, after });
    rows.push(...more);
    if (more.length < filter.limit) return rows;
  }
}
