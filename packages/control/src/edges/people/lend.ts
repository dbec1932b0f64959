import type { Context } from "hono";
import { needAdmin } from "../../services/access.ts";
import { localTeam } from "../../store/keys.ts";
import { type App, type Env, readId } from "../endpoint.ts";

/** Serves a request below `/v1/admin` as the same one below `/v1`, for the installation's own team. */
export async function lend(app: App, c: Context<Env>): Promise<Response> {
  const caller = { ...needAdmin(c.get("caller")), team: localTeam.id };
  const id = c.req.param("id");
  if (id !== undefined) readId(id);
  const url = c.req.url.replace("/v1/admin/", "/v1/");
  return await app.fetch(new Request(url, c.req.raw), { ...c.env, admitted: caller });
}
