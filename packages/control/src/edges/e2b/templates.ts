import { plainName } from "../../services/e2b/names.ts";
import type { Snapshots } from "../../services/snapshots.ts";
import { type Routes, route } from "./route.ts";

/** What exists of a template is told, and a snapshot, which is one too, can be deleted. */
export function templateRoutes(routes: Routes, snapshots: Snapshots): void {
  route(routes, "GET /templates/aliases/:alias", {}, async ({ caller, c }) => {
    const found = await snapshots.get(caller, plainName(c.req.param("alias")!));
    return { templateID: found.name, public: !("teamId" in found) };
  });
  route(routes, "DELETE /templates/:template", {}, ({ caller, c }) =>
    snapshots.remove(caller, plainName(c.req.param("template")!)),
  );
}
