import { rest, WrennError } from "@wrenn/contract";
import type { Context } from "hono";
import { z } from "zod";
import { cookieValue, needPerson } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import { flowSec, linkOf } from "../../services/people/providers.ts";
import { type App, type Env, endpoint } from "../endpoint.ts";
import { clientOf, type Doorway, isSecure, setSession } from "./client.ts";

const cookieName = "oauth_state";
const Start = z.object({ intent: z.enum(["login", "signup"]).default("login") });
const Back = z.object({ code: z.string().optional(), state: z.string().optional(), error: z.string().optional() });

/** `/auth/oauth/{provider}`: to a provider and back (Wrenn REST API 3). The session is a cookie that no script reads. */
export function openOauthRoutes(app: App, { providers, site, log }: Services, doorway: Doorway): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/auth/oauth/{provider}", access: "open", status: 302, query: Start },
      summary: "To the provider, to sign in or up.",
      codes: ["provider_not_found", "unavailable"],
    },
    async ({ query, c }) => {
      const { url, flow } = await providers.depart(c.req.param("provider")!, { intent: query.intent });
      keep(c, flow);
      return c.redirect(url);
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/auth/oauth/{provider}/callback", access: "open", status: 302, query: Back },
      summary: "Back from the provider; leads to the dashboard, with `error` when it did not succeed.",
    },
    async ({ c }) => {
      const provider = c.req.param("provider")!;
      const page = (path: string) => c.redirect(site.dashboard(path));
      const kept = cookieValue(c.req.raw.headers, cookieName);
      const query = new URL(c.req.url).searchParams;
      c.header("Set-Cookie", `${cookieName}=; Max-Age=0; Path=/auth/oauth; HttpOnly; SameSite=Lax`, { append: true });
      try {
        const arrival = await providers.arrive(provider, query, kept, clientOf(c, doorway));
        if ("linked" in arrival) return page(`/dashboard/settings?connected=${encodeURIComponent(arrival.linked)}`);
        setSession(c, arrival.auth.token);
        return page(`/auth/${encodeURIComponent(provider)}/callback${arrival.isNew ? "?new_signup=1" : ""}`);
      } catch (thrown) {
        const error = WrennError.from(thrown);
        const reason = error.details?.reason ?? "internal_error";
        if (error.code === "internal_error") log.error({ requestId: c.get("requestId"), err: error }, "sign-in failed");
        const path =
          reason === "already_linked"
            ? "/dashboard/settings?connect_error="
            : `/auth/${encodeURIComponent(provider)}/callback?error=`;
        return page(path + reason);
      }
    },
  );
}

/** Connecting a provider to one's account. */
export function connectRoutes(app: App, { providers }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/me/providers/{provider}/connect", access: "person", status: 200 },
      answer: rest.ConnectProvider,
      summary: "Where to go to connect a provider to one's account.",
      codes: ["provider_not_found"],
    },
    async ({ caller, c }) => {
      const { url, flow } = await providers.depart(c.req.param("provider")!, linkOf(needPerson(caller)));
      keep(c, flow);
      return { auth_url: url };
    },
  );
}

function keep(c: Context<Env>, flow: string): void {
  const secure = isSecure(c) ? "; Secure" : "";
  const value = encodeURIComponent(flow);
  c.header(
    "Set-Cookie",
    `${cookieName}=${value}; Max-Age=${flowSec}; Path=/auth/oauth; HttpOnly; SameSite=Lax${secure}`,
  );
}
