import { parseSandboxId, rest, type SandboxId, states, WrennError } from "@wrenn/contract";
import { z } from "zod";
import type { Sandboxes } from "../services/sandboxes.ts";
import { hiddenStates } from "../store/phase.ts";
import type { SandboxRow } from "../store/schema.ts";
import { type App, check, endpoint } from "./endpoint.ts";
import { capsule } from "./present.ts";

/** Most sandboxes one answer lists; the cursor leads on. */
const maxPage = 1_000;
const shownStates = states.filter((state) => !hiddenStates.includes(state));

const ListQuery = z.object({
  status: z
    .string()
    .optional()
    .meta({ description: "One or more states, separated by commas; absent: all but `stopped` and `error`." }),
  template: z.string().optional(),
  metadata: z
    .string()
    .optional()
    .meta({ description: 'A JSON object of text, such as `{"user":"ann"}`: sandboxes that have all its pairs.' }),
  limit: z.coerce.number().int().min(1).max(maxPage).default(maxPage),
  cursor: z.string().optional().meta({ description: "The `X-Next-Cursor` of the answer before." }),
});
const Metadata = z.record(z.string(), z.string());

const hostCodes = ["host_unavailable", "agent_error"] as const;

/** `/v1/capsules`: the life of sandboxes. */
export function capsuleRoutes(app: App, sandboxes: Sandboxes): void {
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules",
      summary: "Create a sandbox; answers when it runs.",
      body: rest.CreateCapsule,
      status: 201,
      answer: rest.Capsule,
      codes: [
        "not_found",
        "invalid_state",
        "conflict",
        "no_hosts_available",
        "insufficient_storage",
        "rate_limited",
        ...hostCodes,
      ],
    },
    async ({ caller, body }) => capsule(await sandboxes.create(caller, body)),
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules",
      summary: "List the team's sandboxes, newest first.",
      query: ListQuery,
      status: 200,
      answer: z.array(rest.Capsule),
    },
    async ({ caller, query, c }) => {
      const rows = await sandboxes.list(caller, { ...readFilter(query), limit: query.limit + 1 });
      if (rows.length > query.limit) c.header("X-Next-Cursor", cursorOf(rows[query.limit - 1]!));
      return rows.slice(0, query.limit).map(capsule);
    },
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/{id}",
      summary: "One sandbox, in any state.",
      status: 200,
      answer: rest.Capsule,
    },
    async ({ caller, id }) => capsule(await sandboxes.get(caller, id)),
  );
  endpoint(
    app,
    {
      method: "delete",
      path: "/v1/capsules/{id}",
      summary: "Remove a sandbox with everything it holds.",
      status: 204,
      codes: hostCodes,
    },
    async ({ caller, id }) => sandboxes.destroy(caller, id),
  );
  changes(app, sandboxes);
}

function changes(app: App, sandboxes: Sandboxes): void {
  const codes = ["invalid_state", "insufficient_storage", ...hostCodes] as const;
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/pause",
      summary: "Stop a sandbox, keeping memory and disk.",
      status: 200,
      answer: rest.Capsule,
      codes,
    },
    async ({ caller, id }) => capsule(await sandboxes.pause(caller, id)),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/resume",
      summary: "Run a paused sandbox again.",
      status: 200,
      answer: rest.Capsule,
      codes,
    },
    async ({ caller, id }) => capsule(await sandboxes.resume(caller, id)),
  );
  endpoint(
    app,
    { method: "post", path: "/v1/capsules/{id}/ping", summary: "Refresh the inactivity timer.", status: 204, codes },
    async ({ caller, id }) => sandboxes.ping(caller, id),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/timeout",
      summary: "Change the seconds of inactivity until the sandbox is paused or killed.",
      body: rest.SetTimeout,
      status: 200,
      answer: rest.Capsule,
      codes,
    },
    async ({ caller, id, body }) => capsule(await sandboxes.setTimeout(caller, id, body.timeout_sec)),
  );
}

function readFilter(query: z.output<typeof ListQuery>) {
  const { status, template, metadata, cursor } = query;
  return {
    states: status ? check(z.array(z.enum(states)), status.split(","), "query field status") : shownStates,
    template,
    metadata: metadata === undefined ? undefined : check(Metadata, parse(metadata), "query field metadata"),
    after: cursor === undefined ? undefined : readCursor(cursor),
  };
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

const cursorOf = (row: SandboxRow): string =>
  Buffer.from(`${row.createdAt.toISOString()} ${row.id}`).toString("base64url");

function readCursor(cursor: string): { createdAt: Date; id: SandboxId } {
  const [time = "", text = ""] = Buffer.from(cursor, "base64url").toString("utf8").split(" ");
  const createdAt = new Date(time);
  const id = parseSandboxId(text);
  if (id && !Number.isNaN(createdAt.getTime())) return { createdAt, id };
  throw new WrennError("invalid_request", "The cursor is not one of ours.", {
    remedy: "Use the X-Next-Cursor of an earlier answer, unchanged.",
  });
}
