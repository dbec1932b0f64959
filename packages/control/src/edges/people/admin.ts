import { rest } from "@wrenn/contract";
import { z } from "zod";
import { needAdmin } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import { localTeam } from "../../store/keys.ts";
import { type App, endpoint } from "../endpoint.ts";
import { needMatch, tagged } from "../etag.ts";
import { AuditQuery, auditPage } from "./audit.ts";
import { setSession, shownToken } from "./client.ts";

const PageQuery = z.object({ page: z.coerce.number().int().min(1).max(1_000_000).default(1) });
const AdminAuditQuery = AuditQuery.extend({
  team: z.string().optional().meta({ description: "The id of a team, or `all`; absent: the installation's own." }),
});

/** `/v1/admin/teams` and `/users` (Wrenn REST API 13). */
export function adminPeopleRoutes(app: App, { admin }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/admin/teams", access: "admin", status: 200 },
      ...{ query: PageQuery, answer: rest.AdminTeams },
      summary: "All teams, newest first, deleted ones too.",
    },
    async ({ query }) => admin.teams(query.page),
  );
  endpoint(
    app,
    {
      ...{ method: "put", path: "/v1/admin/teams/{team}/byoc", access: "admin", status: 204, body: rest.SetByoc },
      summary: "Let a team's sandboxes run on its own hosts only; this cannot be taken back.",
      codes: ["not_found"],
    },
    async ({ caller, c }) => admin.setByoc(needAdmin(caller), c.req.param("team")!),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/admin/teams/{team}", access: "admin", status: 204 },
      summary: "Delete a team with everything in it.",
      codes: ["not_found"],
    },
    async ({ caller, c }) => admin.deleteTeam(needAdmin(caller), c.req.param("team")!),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/admin/users", access: "admin", status: 200 },
      ...{ query: PageQuery, answer: rest.AdminUsers },
      summary: "All accounts, newest first.",
    },
    async ({ query }) => admin.users(query.page),
  );
  endpoint(
    app,
    {
      ...{ method: "put", path: "/v1/admin/users/{user}/active", access: "admin", status: 204, body: rest.SetActive },
      summary: "Open or close an account; one that is closed is out at once, with its keys and its teams' sandboxes.",
      codes: ["not_found"],
    },
    async ({ caller, body, c }) => admin.setActive(needAdmin(caller), c.req.param("user")!, body.active),
  );
  endpoint(
    app,
    {
      ...{ method: "put", path: "/v1/admin/users/{user}/admin", access: "admin", status: 204, body: rest.SetAdmin },
      summary: "Make somebody an administrator of the installation, or no longer.",
      codes: ["not_found"],
    },
    async ({ caller, body, c }) => admin.setAdmin(needAdmin(caller), c.req.param("user")!, body.is_admin),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/admin/users/{user}/impersonate", access: "admin", status: 201 },
      ...{ body: rest.Impersonate, answer: rest.AuthResponse },
      summary: "A session as somebody, for an hour; the audit log names both in all it does.",
      codes: ["not_found"],
    },
    async ({ caller, body, c }) => {
      const answer = await admin.impersonate(needAdmin(caller), c.req.param("user")!, body.reason);
      if (shownToken(c)?.from === "cookie") setSession(c, answer.token);
      return answer;
    },
  );
}

/** Settings, quotas and the audit log of the installation. */
export function adminRoutes(app: App, { audit, settings, quotas }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/admin/audit-logs", access: "admin", status: 200 },
      ...{ query: AdminAuditQuery, answer: rest.AuditPage },
      summary: "What was done in the installation's own team, in another one, or in all.",
    },
    async ({ query, c }) => {
      const teams = query.team === "all" ? "all" : [query.team ?? localTeam.id];
      return auditPage(audit, { teams, scopes: ["team", "admin"] }, query, c.req.queries());
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/admin/settings", access: "admin", status: 200, answer: rest.Settings },
      summary: "What was decided for the whole installation.",
    },
    async ({ c }) => tagged(c.req.header("if-none-match"), await settings.get()),
  );
  endpoint(
    app,
    {
      ...{ method: "patch", path: "/v1/admin/settings", access: "admin", status: 200 },
      ...{ body: rest.UpdateSettings, answer: rest.Settings, codes: ["precondition_failed"] },
      summary: "Change what was decided for the whole installation; what is absent stays.",
    },
    async ({ caller, body, c }) => {
      needMatch(c.req.header("if-match"), await settings.get());
      const changed = await settings.update(body);
      const resource = { type: "settings", id: "installation" };
      const metadata = { changed: Object.keys(body).join(", ") };
      audit.note({ ...caller, team: localTeam.id }, { resource, action: "update", scope: "admin", metadata });
      return tagged(undefined, changed);
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/admin/teams/{team}/quotas", access: "admin", status: 200 },
      answer: rest.QuotaState,
      summary: "A team's limits, and what it has.",
    },
    async ({ c }) => quotas.state(c.req.param("team")!),
  );
  endpoint(
    app,
    {
      ...{ method: "put", path: "/v1/admin/teams/{team}/quotas", access: "admin", status: 200 },
      ...{ body: rest.QuotaLimits, answer: rest.QuotaState },
      summary: "Set a team's limits; what is absent has none.",
    },
    async ({ caller, body, c }) => {
      const team = c.req.param("team")!;
      await quotas.set(team, body);
      const metadata = Object.fromEntries(Object.entries(body).map(([name, limit]) => [name, `${limit}`]));
      const deed = { resource: { type: "team", id: team }, action: "set_quotas", metadata } as const;
      audit.note({ ...caller, team: localTeam.id }, { ...deed, scope: "admin", status: "info" });
      return await quotas.state(team);
    },
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/admin/teams/{team}/quotas", access: "admin", status: 204 },
      summary: "Let the installation's default limits hold for a team again.",
    },
    async ({ caller, c }) => {
      const team = c.req.param("team")!;
      await quotas.unset(team);
      const deed = { resource: { type: "team", id: team }, action: "unset_quotas" } as const;
      audit.note({ ...caller, team: localTeam.id }, { ...deed, scope: "admin", status: "info" });
    },
  );
}

/** What everybody who is signed in may read: flags, and the limits of one's own team. */
export function quotaRoutes(app: App, { quotas, settings }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/quotas", status: 200, answer: rest.QuotaState },
      summary: "The team's limits, and what it has.",
    },
    async ({ caller }) => quotas.state(caller.team),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/features", access: "person", status: 200, answer: rest.Features },
      summary: "Flags of the installation.",
    },
    async () => ({ features: (await settings.get()).features }),
  );
}
