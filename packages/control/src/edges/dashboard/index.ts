import type { MiddlewareHandler } from "hono";
import type { Env } from "../endpoint.ts";
import { type Asset, type Built, indexPath } from "./files.ts";

/**
 * Scripts are files of ours and nothing else. Styles may stand in the page: the terminal and the editor write rules for
 * sizes that they measure. Previews of files are `blob:` addresses, whose type the dashboard sets itself.
 */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' blob: data:",
  "media-src blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "frame-src blob:",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join("; ");

const guarded = {
  "content-security-policy": policy,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
};

const missing = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Wrenn</title>
<p>The server runs, but its dashboard has not been built. <code>make build</code> makes it; then start the server again.</p>
<p>The API is described at <a href="/docs">/docs</a>.</p></html>
`;

/** A year: a file whose name changes with its content never changes. */
const immutable = "public, max-age=31536000, immutable";

/**
 * The dashboard's files, and its page for every address that is one of its own and that a browser is navigating to.
 * Programs that ask for the same path get the API.
 */
export function dashboard(built: Built | undefined): MiddlewareHandler<Env> {
  return async (c, next) => {
    const { method, path } = c.req;
    if (method !== "GET" && method !== "HEAD") return next();
    if (!built) return path === "/" ? c.html(missing, 404, guarded) : next();
    const asset = built.files.get(path);
    if (asset && path !== indexPath) return answer(c.req.raw, asset);
    const isPage = path === "/" || (built.pages.has(path.split("/")[1]!) && !path.startsWith("/auth/oauth/"));
    if (isPage && isNavigation(c.req.raw)) return answer(c.req.raw, built.files.get(indexPath)!);
    return next();
  };
}

/** Whether a browser wants a page to show; what `fetch` and other programs send does not name HTML. */
const isNavigation = (request: Request): boolean => (request.headers.get("accept") ?? "").includes("text/html");

function answer(request: Request, asset: Asset): Response {
  const headers = new Headers({
    ...guarded,
    "content-type": asset.type,
    "cache-control": asset.isImmutable ? immutable : "no-cache",
    vary: "accept, accept-encoding",
    etag: asset.etag,
  });
  if (request.headers.get("if-none-match") === asset.etag) return new Response(null, { status: 304, headers });
  const [encoding, body] = encoded(asset, request.headers.get("accept-encoding") ?? "");
  if (encoding) headers.set("content-encoding", encoding);
  headers.set("content-length", String(body.length));
  return new Response(request.method === "HEAD" ? null : body, { headers });
}

function encoded({ br, gzip, plain }: Asset, accepted: string): [string | undefined, Uint8Array<ArrayBuffer>] {
  if (br && /\bbr\b/.test(accepted)) return ["br", br];
  if (gzip && /\bgzip\b/.test(accepted)) return ["gzip", gzip];
  return [undefined, plain];
}
