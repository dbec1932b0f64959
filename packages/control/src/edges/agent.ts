import { headers, type SandboxId, WrennError } from "@wrenn/contract";
import { hostError } from "../hosts/host.ts";
import type { Caller } from "../services/caller.ts";
import type { Guests } from "../services/guests.ts";
import { type App, describe, readId } from "./endpoint.ts";

/** RFC 9110 section 7.6.1: headers that speak about one connection. */
const hopByHop = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
] as const;
/** What is said to this server and is none of the guest's business. */
const ours = ["host", headers.apiKey, headers.hostToken, headers.accessToken] as const;

/** The agent's paths that only its host may call: they change identity, or stop the guest. */
const hostOnly = /^\/+(init|freeze|unfreeze|fsfreeze|fsthaw|collapse|snapshot)(\/|$)/i;

/** Answers this small are sent whole, so that they keep their Content-Length: Bun frames every stream as chunked. */
const wholeBytes = 64 * 1024;
const emptyStatuses: readonly number[] = [204, 205, 304];

/** `/v1/capsules/{id}/agent/*`: any method, byte for byte, to the guest agent. */
export function agentRoutes(app: App, guests: Guests): void {
  describe(app, {
    methods: ["get", "head", "post", "put", "delete"],
    path: "/v1/capsules/{id}/agent/{path}",
    summary: "Forward a request to the guest agent, byte for byte; the answer is the agent's own.",
    status: 200,
    codes: ["invalid_state", "host_unavailable"],
  });
  app.all("/v1/capsules/:id/agent/*", (c) => forward(guests, c.get("caller"), c.req.raw));
}

/** Sends a request on to the guest agent and its answer back, as they come; either side's end ends the other. */
export async function forward(guests: Guests, caller: Caller, request: Request): Promise<Response> {
  const { id, path } = split(request.url);
  const host = await guests.locate(caller, id);
  try {
    const upstream = await host.agent(id, path, {
      method: request.method,
      headers: requestHeaders(request.headers, caller.requestId),
      body: request.body,
      signal: request.signal,
      decompress: false,
      duplex: "half",
    });
    return await relay(upstream, request.method);
  } catch (thrown) {
    throw hostError(thrown);
  }
}

/** Sandbox and agent path of a URL. Throws `not_found` for paths that leave the agent, or that are its host's alone. */
export function split(url: string): { id: SandboxId; path: string } {
  // Parsing resolves `.` and `..`, encoded ones too, so what is checked here is what is sent.
  const { pathname, search } = new URL(url);
  const [, text, rest] = /^\/v1\/capsules\/([^/]+)\/agent(\/.*)$/.exec(pathname) ?? [];
  const path = rest && decoded(rest);
  if (!text || !rest || path === undefined || hostOnly.test(path) || /(^|[/\\])\.\.([/\\]|$)/.test(path))
    throw new WrennError("not_found", "The guest agent has no such path.", {
      remedy: "Use /files, /process.Process/… or /filesystem.Filesystem/….",
    });
  return { id: readId(text), path: rest + search };
}

function decoded(path: string): string | undefined {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

function requestHeaders(from: Headers, requestId: string): Headers {
  const sent = new Headers(from);
  dropConnection(sent);
  for (const name of ours) sent.delete(name);
  sent.set(headers.requestId, requestId);
  // Without it `fetch` asks for compression, and the client would get an encoding it did not offer.
  if (!sent.has("accept-encoding")) sent.set("accept-encoding", "identity");
  return sent;
}

function dropConnection(list: Headers): void {
  for (const name of list.get("connection")?.split(",") ?? []) if (name.trim()) list.delete(name.trim());
  for (const name of hopByHop) list.delete(name);
}

async function relay(upstream: Response, method: string): Promise<Response> {
  const answer = new Headers(upstream.headers);
  dropConnection(answer);
  const init = { status: upstream.status, headers: answer };
  if (method === "HEAD" || emptyStatuses.includes(upstream.status)) return new Response(null, init);
  const length = Number(upstream.headers.get("content-length") ?? Number.POSITIVE_INFINITY);
  return new Response(length <= wholeBytes ? await upstream.arrayBuffer() : upstream.body, init);
}
