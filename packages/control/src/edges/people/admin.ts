import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Caller } from "../../services/caller.ts";
import type { Services } from "../../services/index.ts";
import { localTeam } from "../../store/keys.ts";
import { type App, endpoint } from "../endpoint.ts";
import { adminRoute } from "./admin-route.ts";
import { AuditQuery, auditPage } from "./audit.ts";

const AdminAuditQuery = AuditQuery.extend({
  team: z.string().optional().meta({ description: "The id of a team, or `all`; absent: the installation's own." }),
});

/** Settings, quotas and the audit log of the installation. */
export function adminRoutes(app: App, services: Services): void {
  const { audit } = services;
  adminRoute(
    app,
    {
      ...{ method: "get", at: "/audit-logs", query: AdminAuditQuery, answer: rest.AuditPage },
      summary: "What was done in the installation's own team, in another one, or in all.",
    },
    async ({ query, c }) => {
      const teams = query.team === "all" ? "all" : [query.team ?? localTeam.id];
      return auditPage(audit, { teams, scopes: ["team", "admin"] }, query, c.req.queries());
    },
  );
  settingRoutes(app, services);
  teamQuotaRoutes(app, services);
}

function settingRoutes(app: App, { audit, settings }: Services): void {
  adminRoute(
    app,
    {
      ...{ method: "get", at: "/settings", answer: rest.Settings, tagged: true },
      summary: "What was decided for the whole installation.",
    },
    () => settings.get(),
  );
  adminRoute(
    app,
    {
      ...{ method: "patch", at: "/settings", body: rest.UpdateSettings, answer: rest.Settings },
      ...{ tagged: true, changes: () => settings.get() },
      summary: "Change what was decided for the whole installation; what is absent stays.",
    },
    async ({ caller, body }) => {
      const changed = await settings.update(body);
      const resource = { type: "settings", id: "installation" };
      const metadata = { changed: Object.keys(body).join(", ") };
      audit.note({ ...caller, team: localTeam.id }, { resource, action: "update", scope: "admin", metadata });
      return changed;
    },
  );
}

function teamQuotaRoutes(app: App, { audit, quotas }: Services): void {
  const at = "/teams/{team}/quotas";
  const note = (caller: Caller, team: string, action: string, limits: rest.QuotaLimits) => {
    const metadata = Object.fromEntries(Object.entries(limits).map(([name, limit]) => [name, `${limit}`]));
    const deed = { resource: { type: "team", id: team }, action, metadata, scope: "admin", status: "info" } as const;
    audit.note({ ...caller, team: localTeam.id }, deed);
  };
  adminRoute(
    app,
    { method: "get", at, answer: rest.QuotaState, summary: "A team's limits, and what it has." },
    async ({ named }) => quotas.state(named),
  );
  adminRoute(
    app,
    {
      ...{ method: "put", at, body: rest.QuotaLimits, answer: rest.QuotaState },
      summary: "Set a team's limits; what is absent has none.",
    },
    async ({ caller, named, body }) => {
      await quotas.set(named, body);
      note(caller, named, "set_quotas", body);
      return await quotas.state(named);
    },
  );
  adminRoute(
    app,
    { method: "delete", at, summary: "Let the installation's default limits hold for a team again." },
    async ({ caller, named }) => {
      await quotas.unset(named);
      note(caller, named, "unset_quotas", {});
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
