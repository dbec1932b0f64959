import { headers } from "@wrenn/contract";
import type { MiddlewareHandler } from "hono";
import type { Env } from "./endpoint.ts";

/** A browser asks again only then whether another origin may call. */
const preflightSec = "600";
const methods = "GET, HEAD, POST, PUT, PATCH, DELETE";
const allowed = `authorization, content-type, if-match, if-none-match, ${Object.values(headers).join(", ").toLowerCase()}`;
const exposed = `etag, retry-after, x-next-cursor, ${headers.requestId.toLowerCase()}`;

/** What every answer says to browsers, and which other origins may call (RFC 6797, Fetch standard). */
export function guard(origins: readonly string[]): MiddlewareHandler<Env> {
  return async (c, next) => {
    const origin = c.req.header("origin");
    const isWelcome = origin !== undefined && origins.includes(origin);
    if (isWelcome && c.req.method === "OPTIONS" && c.req.header("access-control-request-method"))
      return c.body(null, 204, { ...welcome(origin), ...preflight });
    await next();
    const given = c.res.headers;
    for (const [name, value] of Object.entries(always)) if (!given.has(name)) given.set(name, value);
    if (c.req.path.startsWith("/v1/") && !given.has("cache-control")) given.set("cache-control", "no-store");
    if (c.req.header("x-forwarded-proto") === "https" || c.req.url.startsWith("https:"))
      given.set("strict-transport-security", "max-age=31536000");
    if (isWelcome) for (const [name, value] of Object.entries(welcome(origin))) given.set(name, value);
  };
}

/** What a guest sends is shown as what it says it is, in no frame of somebody else's, and leads nowhere with a Referer. */
const always = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
} as const;

const welcome = (origin: string) => ({
  "access-control-allow-origin": origin,
  "access-control-allow-credentials": "true",
  "access-control-expose-headers": exposed,
  vary: "Origin",
});

const preflight = {
  "access-control-allow-methods": methods,
  "access-control-allow-headers": allowed,
  "access-control-max-age": preflightSec,
};
