import { headers, rest } from "@wrenn/contract";
import type { Context } from "hono";
import { csrf } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import { sessionPrefix } from "../../services/people/secrets.ts";
import { type App, type Env, endpoint } from "../endpoint.ts";
import { clientOf, type Doorway, dropSession, setSession, shownToken } from "./client.ts";

/** `/v1/auth/link` and `/key`: browsers that speak for a team, with its key where no script can read it. */
export function openLinkRoutes(app: App, { links }: Services, doorway: Doorway): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/auth/link", access: "open", status: 204, body: rest.TokenBody },
      summary: "Open a sign-in link: the browser gets a key of its own as a cookie. A link opens once.",
      codes: ["invalid_token", "csrf_required", "rate_limited"],
    },
    async ({ body, c }) => {
      needOwnPage(c);
      setSession(c, await links.open(body.token, clientOf(c, doorway)));
    },
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/auth/key", access: "open", status: 204, body: rest.KeyBody },
      summary: "Keep an API key as the browser's cookie.",
      codes: ["unauthorized", "csrf_required", "rate_limited"],
    },
    async ({ body, c }) => {
      needOwnPage(c);
      await links.check(body.key, clientOf(c, doorway));
      setSession(c, body.key);
    },
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/auth/key", access: "open", status: 204 },
      summary: "Take the browser's key away; one that a link made ends with it.",
      codes: ["csrf_required"],
    },
    async ({ c }) => {
      needOwnPage(c);
      const shown = shownToken(c);
      if (shown?.from !== "cookie" || shown.token.startsWith(sessionPrefix)) return;
      await links.leave(shown.token).catch(() => {}); // it has ended already
      dropSession(c);
    },
  );
}

/** `/v1/auth/links`: what `wrenn up` prints. */
export function linkRoutes(app: App, { links }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/auth/links", status: 201, answer: rest.SignInLink, codes: ["forbidden"] },
      summary: "A link that signs a browser in as the key's team, once, within 15 minutes.",
    },
    async ({ caller }) => links.make(caller),
  );
}

/** The header forces a preflight, which no other origin passes: none may sign a browser in or out. */
function needOwnPage(c: Context<Env>): void {
  if (c.req.header(headers.csrf) === undefined) throw csrf();
}
