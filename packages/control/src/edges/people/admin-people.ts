import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Services } from "../../services/index.ts";
import type { App } from "../endpoint.ts";
import { adminRoute } from "./admin-route.ts";
import { setSession, shownToken } from "./client.ts";

const PageQuery = z.object({ page: z.coerce.number().int().min(1).max(1_000_000).default(1) });
const codes = ["not_found"] as const;

/** `/v1/admin/teams` and `/users` (Wrenn REST API 13). */
export function adminPeopleRoutes(app: App, { admin }: Services): void {
  adminRoute(
    app,
    {
      ...{ method: "get", at: "/teams", query: PageQuery, answer: rest.AdminTeams },
      summary: "All teams, newest first, deleted ones too.",
    },
    async ({ query }) => admin.teams(query.page),
  );
  adminRoute(
    app,
    {
      ...{ method: "put", at: "/teams/{team}/byoc", body: rest.SetByoc, codes },
      summary: "Let a team's sandboxes run on its own hosts only; this cannot be taken back.",
    },
    async ({ by, named }) => admin.setByoc(by, named),
  );
  adminRoute(
    app,
    { method: "delete", at: "/teams/{team}", summary: "Delete a team with everything in it.", codes },
    async ({ by, named }) => admin.deleteTeam(by, named),
  );
  adminRoute(
    app,
    {
      ...{ method: "get", at: "/users", query: PageQuery, answer: rest.AdminUsers },
      summary: "All accounts, newest first.",
    },
    async ({ query }) => admin.users(query.page),
  );
  adminRoute(
    app,
    {
      ...{ method: "put", at: "/users/{user}/active", body: rest.SetActive, codes },
      summary: "Open or close an account; one that is closed is out at once, with its keys and its teams' sandboxes.",
    },
    async ({ by, named, body }) => admin.setActive(by, named, body.active),
  );
  adminRoute(
    app,
    {
      ...{ method: "put", at: "/users/{user}/admin", body: rest.SetAdmin, codes },
      summary: "Make somebody an administrator of the installation, or no longer.",
    },
    async ({ by, named, body }) => admin.setAdmin(by, named, body.is_admin),
  );
  adminRoute(
    app,
    {
      ...{ method: "post", at: "/users/{user}/impersonate", status: 201 },
      ...{ body: rest.Impersonate, answer: rest.AuthResponse, codes },
      summary: "A session as somebody, for an hour; the audit log names both in all it does.",
    },
    async ({ by, named, body, c }) => {
      const answer = await admin.impersonate(by, named, body.reason);
      if (shownToken(c)?.from === "cookie") setSession(c, answer.token);
      return answer;
    },
  );
}
