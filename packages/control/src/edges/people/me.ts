import { rest } from "@wrenn/contract";
import { z } from "zod";
import { needPerson } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import { type App, endpoint } from "../endpoint.ts";
import { dropSession, shownToken } from "./client.ts";

const SearchQuery = z.object({
  email: z
    .string()
    .min(3)
    .regex(/@/, "the beginning of an address, with its @")
    .meta({ description: "The beginning of an address, at least as far as its @." }),
});

/** `/v1/me` and `/v1/users` (Wrenn REST API 4, 7). */
export function meRoutes(app: App, { profile }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/me", access: "person", status: 200, answer: rest.Me },
      summary: "One's account.",
      tagged: true,
    },
    async ({ caller }) => profile.get(needPerson(caller)),
  );
  endpoint(
    app,
    {
      ...{ method: "patch", path: "/v1/me", access: "person", status: 200 },
      ...{ body: rest.UpdateMe, answer: rest.AuthResponse },
      summary: "Change one's name; the session stays the same.",
      changes: ({ caller }) => profile.get(needPerson(caller)),
    },
    async ({ caller, body, c }): Promise<rest.AuthResponse> => {
      const { id, email, name } = await profile.rename(needPerson(caller), body.name);
      return { token: shownToken(c)!.token, user_id: id, team_id: caller.team, email, name };
    },
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/me/password", access: "person", status: 204, body: rest.ChangePassword },
      summary: "Change one's password; every other session ends.",
      codes: ["wrong_password", "rate_limited"],
    },
    async ({ caller, body }) => profile.changePassword(needPerson(caller), body),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/me", access: "person", status: 204, body: rest.DeleteMe },
      summary: "Close one's account; teams that are one's alone go with it.",
      codes: ["owns_team_with_members", "forbidden"],
    },
    async ({ caller, body, c }) => {
      await profile.close(needPerson(caller), body.confirmation);
      dropSession(c);
    },
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/me/providers/{provider}", access: "person", status: 204 },
      summary: "Disconnect a provider.",
      codes: ["not_found", "last_login_method"],
    },
    async ({ caller, c }) => profile.disconnect(needPerson(caller), c.req.param("provider")!),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/users/search", access: "person", status: 200 },
      ...{ query: SearchQuery, answer: z.array(rest.FoundUser) },
      summary: "People one shares a team with, by the beginning of their address; at most 10.",
    },
    async ({ caller, query }) => profile.search(needPerson(caller), query.email),
  );
}
