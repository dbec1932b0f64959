import { prefixes, rest, WrennError } from "@wrenn/contract";
import { z } from "zod";
import { needPerson } from "../../services/access.ts";
import type { Audit } from "../../services/people/audit.ts";
import type { Person } from "../../services/people/sessions.ts";
import type { AuditFilter } from "../../store/people/audit.ts";
import type { AuditRow } from "../../store/schema/index.ts";
import { type App, endpoint } from "../endpoint.ts";

const maxPage = 200;
const exportPage = 1_000;
const words = z.string().optional().meta({ description: "One or more, separated by commas." });
const Filter = z.object({
  resource_type: words,
  action: words,
  from: z.iso.datetime({ offset: true }).optional(),
  to: z.iso.datetime({ offset: true }).optional(),
});
/** What a list of the audit log is asked with. */
export const AuditQuery = Filter.extend({
  before: z.iso.datetime({ offset: true }).optional().meta({ description: "The `next_before` of the answer before." }),
  before_id: z
    .string()
    .regex(/^log-[0-9a-z]{25}$/)
    .optional()
    .meta({ description: "Its `next_before_id`." }),
  limit: z.coerce.number().int().min(1).max(maxPage).default(50),
});
/** What a list of the audit log is asked with, read. */
export type AuditQuery = z.output<typeof AuditQuery>;
const ExportQuery = Filter.extend({ format: z.enum(["ndjson", "csv"]).default("ndjson") });

/** `/v1/audit-logs` (Wrenn REST API 12). */
export function auditRoutes(app: App, audit: Audit): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/audit-logs", access: "person", status: 200 },
      ...{ query: AuditQuery, answer: rest.AuditPage },
      summary: "What was done in the team, newest first; members see what concerns the whole team.",
    },
    async ({ caller, query, c }) => auditPage(audit, whoSees(needPerson(caller)), query, c.req.queries()),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/audit-logs/verify", access: "person", status: 200, answer: rest.AuditVerdict },
      summary: "Whether the team's audit log is as it was written.",
      codes: ["forbidden"],
    },
    async ({ caller }) => audit.verify(needManager(needPerson(caller)).team),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/audit-logs/export", access: "person", status: 200 },
      ...{ query: ExportQuery, answer: "application/x-ndjson" },
      summary: "The whole audit log of the team as NDJSON or CSV, newest first.",
      codes: ["forbidden"],
    },
    async ({ caller, query, c }) => {
      const seen = whoSees(needManager(needPerson(caller)));
      const filter = { ...seen, ...readFilter(query, c.req.queries()), limit: exportPage };
      const type = query.format === "csv" ? "text/csv; charset=utf-8" : "application/x-ndjson";
      return new Response(exported(audit, filter, query.format), {
        headers: { "content-type": type, "content-disposition": `attachment; filename="audit.${query.format}"` },
      });
    },
  );
}

/** One page of the audit log. */
export async function auditPage(
  audit: Audit,
  seen: Pick<AuditFilter, "teams" | "scopes">,
  query: AuditQuery,
  all: Record<string, string[]>,
): Promise<z.infer<typeof rest.AuditPage>> {
  if ((query.before === undefined) !== (query.before_id === undefined) && query.before === undefined)
    throw new WrennError("invalid_request", "The cursor has no time.", {
      remedy: "Send before together with before_id.",
    });
  const before = query.before === undefined ? undefined : cursorOf(query.before, query.before_id);
  const rows = await audit.list({ ...seen, ...readFilter(query, all), before, limit: query.limit });
  const last = rows.at(-1);
  return {
    items: rows.map(show),
    ...(last && { next_before: last.createdAt.toISOString(), next_before_id: last.id }),
  };
}

/** Without an id the cursor stands before every entry of its time. */
const cursorOf = (at: string, id: string | undefined) => ({ at: new Date(at), id: id ?? prefixes.audit });

const readFilter = (query: z.output<typeof Filter>, all: Record<string, string[]>) => ({
  resourceTypes: many(all.resource_type),
  actions: many(all.action),
  from: query.from === undefined ? undefined : new Date(query.from),
  to: query.to === undefined ? undefined : new Date(query.to),
});

const many = (values: string[] | undefined): string[] | undefined =>
  values?.flatMap((value) => value.split(",")).filter((value) => value !== "");

/** What a member sees: the role is read anew with every request. */
const whoSees = ({ team, role }: Person): Pick<AuditFilter, "teams" | "scopes"> => ({
  teams: [team],
  scopes: role === "member" ? ["team"] : ["team", "admin"],
});

function needManager(person: Person): Person {
  if (person.role !== "member") return person;
  throw new WrennError("forbidden", "Only an owner or administrator of the team may do this.", { remedy: "Ask them." });
}

const show = (row: AuditRow): rest.AuditEntry => ({
  id: row.id,
  actor_type: row.actorType as rest.AuditEntry["actor_type"],
  ...(row.actorId && { actor_id: row.actorId }),
  ...(row.actorName && { actor_name: row.actorName }),
  resource_type: row.resourceType,
  ...(row.resourceId && { resource_id: row.resourceId }),
  action: row.action,
  scope: row.scope,
  status: row.status,
  ...(Object.keys(row.metadata).length > 0 && { metadata: row.metadata }),
  created_at: row.createdAt.toISOString(),
  ...(row.seq !== null && { seq: row.seq }),
  ...(row.hash !== null && { hash: row.hash }),
});

/** Page by page, as fast as the reader takes them. */
function exported(audit: Audit, filter: AuditFilter, format: "ndjson" | "csv"): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let before: AuditFilter["before"];
  return new ReadableStream({
    start: (controller) => controller.enqueue(encoder.encode(format === "csv" ? `${columns.join(",")}\r\n` : "")),
    async pull(controller) {
      const rows = await audit.list({ ...filter, before });
      const line = format === "csv" ? csvLine : (entry: rest.AuditEntry) => `${JSON.stringify(entry)}\n`;
      if (rows.length > 0) controller.enqueue(encoder.encode(rows.map((row) => line(show(row))).join("")));
      const last = rows.at(-1);
      if (!last || rows.length < filter.limit) return controller.close();
      before = { at: last.createdAt, id: last.id };
    },
  });
}

const columns = [
  ...["id", "created_at", "actor_type", "actor_id", "actor_name", "resource_type", "resource_id"],
  ...["action", "scope", "status", "metadata", "seq", "hash"],
] as const;

const csvLine = (entry: rest.AuditEntry): string =>
  `${columns.map((name) => cell((entry as Record<string, unknown>)[name])).join(",")}\r\n`;

/** RFC 4180; what a spreadsheet would run as a formula is text. */
function cell(value: unknown): string {
  const text = typeof value === "object" ? JSON.stringify(value) : String(value ?? "");
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
