import { agentPort, headers, isRefusedAgentPath, type SandboxId, WrennError } from "@wrenn/contract";
import { hostError } from "../hosts/host.ts";
import type { Caller } from "../services/caller.ts";
import type { Guests } from "../services/guests.ts";
import { type App, describe, readId } from "./endpoint.ts";
import { relay, sentHeaders } from "./relay.ts";

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
    const upstream = await host.guest({ sandbox: id, port: agentPort }, path, {
      method: request.method,
      headers: sentHeaders(request.headers, caller.requestId, credentials(request.headers)),
      body: request.body,
      signal: request.signal,
      decompress: false,
      duplex: "half",
    });
    return disarmed(await relay(upstream, request.method));
  } catch (thrown) {
    throw hostError(thrown);
  }
}

/** Headers that say who asks, to us: a guest could use them against its user. `Authorization: Basic` names a user in the guest. */
function credentials(given: Headers): string[] {
  const isOurs = /^bearer\b/i.test(given.get("authorization") ?? "");
  return [headers.accessToken, headers.csrf, "cookie", ...(isOurs ? ["authorization"] : [])];
}

/**
 * A guest's answer comes from the very origin of the dashboard, so a browser that navigates to it must run nothing of
 * it there, and keep no cookie of it.
 */
function disarmed(answer: Response): Response {
  answer.headers.delete("set-cookie");
  answer.headers.delete("clear-site-data");
  answer.headers.set("content-security-policy", "default-src 'none'; sandbox");
  answer.headers.set("x-content-type-options", "nosniff");
  return answer;
}

/** Sandbox and agent path of a URL. Throws `not_found` for paths that leave the agent, or that are its host's alone. */
export function split(url: string): { id: SandboxId; path: string } {
  // Parsing resolves `.` and `..`, encoded ones too, so what is checked here is what is sent.
  const { pathname, search } = new URL(url);
  const [, text, rest] = /^\/v1\/capsules\/([^/]+)\/agent(\/.*)$/.exec(pathname) ?? [];
  if (!text || !rest || isRefusedAgentPath(rest))
    throw new WrennError("not_found", "The guest agent has no such path.", {
      remedy: "Use /files, /process.Process/… or /filesystem.Filesystem/….",
    });
  return { id: readId(text), path: rest + search };
}
