import { capsuleId, headers, parseSandboxId, rest, type SandboxId, states, WrennError } from "@wrenn/contract";
import { z } from "zod";
import type { Services } from "../services/index.ts";
import type { Labels } from "../services/labels.ts";
import type { Hibernation } from "../services/moves/hibernation.ts";
import type { Sandboxes } from "../services/sandboxes.ts";
import type { Snapshots } from "../services/snapshots.ts";
import type { Once } from "../store/once.ts";
import { hiddenStates } from "../store/phase.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import { type App, check, endpoint } from "./endpoint.ts";
import { IfMatch, needMatch } from "./etag.ts";
import { capsule, capsuleText } from "./present.ts";

/** Most sandboxes one answer lists; the cursor leads on. */
const maxPage = 1_000;
const shownStates = states.filter((state) => !hiddenStates.includes(state));

const ListQuery = z.object({
  status: z
    .string()
    .optional()
    .meta({ description: "One or more states, separated by commas; absent: all but `stopped` and `error`." }),
  name: z.string().optional().meta({ description: "The sandbox of this name." }),
  template: z.string().optional(),
  metadata: z
    .string()
    .optional()
    .meta({ description: 'A JSON object of text, such as `{"user":"ann"}`: sandboxes that have all its pairs.' }),
  limit: z.coerce.number().int().min(1).max(maxPage).default(maxPage),
  cursor: z.string().optional().meta({ description: "The `X-Next-Cursor` of the answer before." }),
});
const CreateHeaders = z.object({
  [headers.idempotencyKey]: z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, "1 to 255 visible ASCII characters")
    .optional()
    .meta({ description: "Asked again with the same key and body within 24 hours, the answer is the same sandbox." }),
});
const CreateQuery = z.object({
  wait: z
    .enum(["true", "false"])
    .default("true")
    .meta({ description: "`false`, or `Prefer: respond-async`: answers 202 at once; its status tells when it runs." }),
});
const Metadata = z.record(z.string(), z.string());

const hostCodes = ["host_unavailable", "agent_error"] as const;

/** Shows rows with the names of the snapshots they come from. */
const shower =
  (snapshots: Snapshots) =>
  async (rows: readonly SandboxRow[]): Promise<rest.Capsule[]> => {
    const names = await snapshots.names(rows.map((row) => row.origin));
    return rows.map((row) => capsule(row, names));
  };

type Life = { sandboxes: Sandboxes; hibernation: Hibernation };

/** `/v1/capsules`: the life of sandboxes. */
export function capsuleRoutes(app: App, { sandboxes, hibernation, snapshots, labels }: Services): void {
  const show = shower(snapshots);
  const one = async (row: SandboxRow) => (await show([row]))[0];
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules",
      summary: "Create a sandbox; answers when it runs.",
      body: rest.CreateCapsule,
      query: CreateQuery,
      headers: CreateHeaders,
      status: 201,
      answer: rest.Capsule,
      codes: [
        "not_found",
        "invalid_state",
        "conflict",
        "no_hosts_available",
        "insufficient_storage",
        "rate_limited",
        "quota_exceeded",
        ...hostCodes,
      ],
    },
    async ({ caller, body, query, c }) => {
      const once = onceOf(c.req.raw.headers, body);
      if (query.wait === "true" && !prefersAsync(c.req.header("prefer")))
        return one(await sandboxes.create(caller, body, once));
      const row = await sandboxes.createSoon(caller, body, once);
      return c.json(await one(row), 202, { location: `/v1/capsules/${capsuleId(row.id)}` });
    },
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
      const page = rows.slice(0, query.limit);
      const names = await snapshots.names(page.map((row) => row.origin));
      const text = `[${page.map((row) => capsuleText(row, names)).join()}]`;
      return c.body(text, 200, { "content-type": "application/json" });
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
      tagged: true,
      anyText: true,
    },
    async ({ caller, id }) => one(await sandboxes.get(caller, id)),
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
  labelling(app, labels, one);
  changes(app, { sandboxes, hibernation }, one);
  forks(app, snapshots, { show, one });
}

type One = (row: SandboxRow) => Promise<rest.Capsule | undefined>;

function labelling(app: App, labels: Labels, one: One): void {
  endpoint(
    app,
    {
      method: "patch",
      path: "/v1/capsules/{id}",
      summary: "Change a sandbox's name or metadata; what is absent stays.",
      body: rest.UpdateCapsule,
      headers: IfMatch,
      status: 200,
      answer: rest.Capsule,
      codes: ["conflict", "precondition_failed"],
      tagged: true,
    },
    async ({ caller, id, body, c }) => {
      // Looked at again in each try: the check is part of the write.
      const agreed = async (row: SandboxRow) => needMatch(c.req.header("if-match"), await one(row));
      return await one(await labels.change(caller, id, body, agreed));
    },
  );
}

function changes(app: App, { sandboxes, hibernation }: Life, one: One): void {
  const codes = [
    "no_hosts_available",
    "invalid_state",
    "insufficient_storage",
    "quota_exceeded",
    ...hostCodes,
  ] as const;
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/pause",
      summary: "Stop a sandbox, keeping memory and disk, or the disk alone: on its host, or in the object store.",
      body: rest.PauseCapsule,
      status: 200,
      answer: rest.Capsule,
      codes: [...codes, "conflict", "unavailable"],
    },
    async ({ caller, id, body }) =>
      one(await (body.hibernate ? hibernation : sandboxes).pause(caller, id, { diskOnly: body.disk_only })),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/hibernate",
      summary: "Move a sandbox to the object store, pausing it first if it runs; any fitting host resumes it.",
      status: 200,
      answer: rest.Capsule,
      codes: [...codes, "conflict", "unavailable"],
    },
    async ({ caller, id }) => one(await hibernation.pause(caller, id)),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/resume",
      summary: "Run a paused sandbox again: where it stopped, or booted when it has its disk alone.",
      body: rest.DiskOnly,
      status: 200,
      answer: rest.Capsule,
      codes,
    },
    async ({ caller, id, body }) => one(await sandboxes.resume(caller, id, { diskOnly: body.disk_only })),
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
    async ({ caller, id, body }) => one(await sandboxes.setTimeout(caller, id, body.timeout_sec)),
  );
}

function forks(app: App, snapshots: Snapshots, { show, one }: { show: ReturnType<typeof shower>; one: One }): void {
  const codes = ["invalid_state", "insufficient_storage", "rate_limited", "quota_exceeded", ...hostCodes] as const;
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/fork",
      summary: "Start copies of a sandbox, memory and processes included; all or none of them.",
      body: rest.ForkCapsule,
      status: 201,
      answer: z.array(rest.Capsule),
      codes,
    },
    async ({ caller, id, body }) => show(await snapshots.fork(caller, id, body)),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/rollback",
      summary: "Put a sandbox back to a snapshot of its line, named by name or id; it runs afterwards.",
      body: rest.RollbackCapsule,
      status: 200,
      answer: rest.Capsule,
      codes,
    },
    async ({ caller, id, body }) => one(await snapshots.rollback(caller, id, body.snapshot)),
  );
}

/** RFC 7240, section 4.1. */
const prefersAsync = (prefer = ""): boolean => prefer.split(",").some((one) => one.trim() === "respond-async");

/** The key under which a creation is asked for, if there is one. Throws `invalid_request` for a malformed one. */
export function onceOf(given: Headers, body: object): Once | undefined {
  const name = headers.idempotencyKey;
  const key = given.get(name);
  if (key === null) return undefined;
  check(CreateHeaders, { [name]: key }, "header");
  return { key, digest: new Bun.CryptoHasher("sha256").update(JSON.stringify(body)).digest("hex") };
}

function readFilter(query: z.output<typeof ListQuery>) {
  const { status, name, template, metadata, cursor } = query;
  return {
    states: status ? check(z.array(z.enum(states)), status.split(","), "query field status") : shownStates,
    name,
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
