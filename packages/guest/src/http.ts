import { WrennError } from "@wrenn/contract/core";

/** An error of the plain HTTP paths: `{"code","message"}`, where `code` is the status (E2B protocol, section 7). */
export function httpError(status: number, message: string): Response {
  return Response.json({ code: status, message }, { status });
}

/** The answer to anything thrown on a plain HTTP path; strangers are logged and told as an internal error. */
export function httpFailure(thrown: unknown): Response {
  const error = WrennError.from(thrown);
  if (error.code === "internal_error" && error.cause) console.error(error.cause);
  return httpError(error.status, error.message);
}

/** What the paths of a request's URL need: parsed once, without the cost of a full `URL`. */
export type Target = { path: string; query: URLSearchParams };

/** Splits a request's URL. */
export function targetOf(url: string): Target {
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const mark = url.indexOf("?", start);
  if (mark < 0) return { path: start < 0 ? "/" : url.slice(start), query: new URLSearchParams() };
  return { path: url.slice(start, mark), query: new URLSearchParams(url.slice(mark + 1)) };
}

const anyOrigin = { "Access-Control-Allow-Origin": "*" };

/** Answer to a browser's question whether it may send a request (any origin may: the token decides, not the origin). */
export function preflight(request: Request): Response {
  return new Response(null, {
    status: 204,
    headers: {
      ...anyOrigin,
      "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
      "Access-Control-Allow-Headers": request.headers.get("access-control-request-headers") ?? "*",
      "Access-Control-Max-Age": "7200",
    },
  });
}

/** Lets a browser's script of any origin read `response`. */
export function allowAnyOrigin(response: Response): Response {
  response.headers.set("Access-Control-Allow-Origin", "*");
  response.headers.set("Access-Control-Expose-Headers", "*");
  return response;
}
