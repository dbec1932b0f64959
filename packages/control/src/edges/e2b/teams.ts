import type { rest } from "@wrenn/contract";
import { credentialOf, needPerson } from "../../services/access.ts";
import type { Teams } from "../../services/people/teams.ts";
import { type Routes, route } from "./route.ts";

/** `/teams`: the teams that the caller speaks for. */
export function teamRoutes(routes: Routes, teams: Teams): void {
  route(routes, "GET /teams", {}, async ({ caller, c }): Promise<rest.e2b.Team[]> => {
    if (caller.actor.type === "api_key") {
      const { id, name } = await teams.ofKey(caller);
      // Only a key's hash is kept, so the one that was shown is the only one that can be told.
      return [{ teamID: id, name, apiKey: credentialOf(c.req.raw.headers)?.token ?? "", isDefault: true }];
    }
    const all = await teams.list(needPerson(caller));
    return all.map(({ id, name, isDefault }) => ({ teamID: id, name, apiKey: "", isDefault }));
  });
}
