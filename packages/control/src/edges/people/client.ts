import type { Context } from "hono";
import type { AccessConfig } from "../../config-access.ts";
import { credentialOf, sessionCookie } from "../../services/access.ts";
import type { Client } from "../../services/people/sessions.ts";
import type { Env } from "../endpoint.ts";

/** What routes about people need of the configuration. */
export type Doorway = { config: AccessConfig };

/** A browser keeps the cookie as long as a session can last; the server decides when it ends. */
const cookieMaxAgeSec = 30 * 86_400;

/** Where a request comes from; behind proxies the address that the outermost trusted one saw. */
export function clientOf(c: Context<Env>, { config }: Doorway): Client {
  const forwarded = (c.req.header("x-forwarded-for") ?? "").split(",").map((address) => address.trim());
  const behind = config.trustedProxies > 0 ? forwarded.at(-config.trustedProxies) : undefined;
  return { ip: behind || peerOf(c), userAgent: c.req.header("user-agent") ?? "" };
}

/** Whether somebody on this very machine asks, by a name of it, and no proxy stands between. */
export function isLoopback(c: Context<Env>): boolean {
  const isPeer = /^(127\.|::1$|::ffff:127\.)/.test(peerOf(c));
  const isProxied = ["x-forwarded-for", "forwarded", "x-real-ip"].some((name) => c.req.header(name) !== undefined);
  // A page that rebinds its own name to this address would come with that name.
  const isNamed = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i.test(c.req.header("host") ?? "");
  return isPeer && isNamed && !isProxied;
}

const peerOf = (c: Context<Env>): string => c.env?.peer?.(c.req.raw) ?? "unknown";

/** Gives the browser its session, where no script can read it. */
export function setSession(c: Context<Env>, token: string): void {
  c.header("Set-Cookie", `${sessionCookie}=${token}; Max-Age=${cookieMaxAgeSec}${attributes(c)}`, { append: true });
}

/** Takes it away. */
export function dropSession(c: Context<Env>): void {
  c.header("Set-Cookie", `${sessionCookie}=; Max-Age=0${attributes(c)}`, { append: true });
}

/** Without a Domain the cookie stays with this host: sandboxes below it never see it. */
const attributes = (c: Context<Env>): string => `; Path=/; HttpOnly; SameSite=Lax${isSecure(c) ? "; Secure" : ""}`;

/** Whether the browser speaks TLS, to us or to a proxy before us. */
export const isSecure = (c: Context<Env>): boolean =>
  (c.req.header("x-forwarded-proto")?.split(",")[0]?.trim() ?? new URL(c.req.url).protocol).startsWith("https");

/** The token a signed-in request came with. */
export const shownToken = (c: Context<Env>): { token: string; from: "key" | "bearer" | "cookie" } | undefined =>
  credentialOf(c.req.raw.headers);
