import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import {
  agentPort,
  type Code,
  filesystem,
  headers as names,
  processes,
  type SandboxId,
  toConnectError,
  WrennError,
} from "@wrenn/contract";
import type { FetchInit, Host } from "./host.ts";

/** The guest agent of one sandbox, as one user of it. */
export type Guest = {
  readonly processes: Client<typeof processes.Process>;
  readonly filesystem: Client<typeof filesystem.Filesystem>;
  /** A plain HTTP request to the agent; a refusal by host or agent is thrown as a WrennError. */
  http(path: string, init: FetchInit): Promise<Response>;
};

/** The agent takes the user from HTTP Basic, with an empty password; without one it takes the sandbox's default user. */
const asUser = (user: string | undefined): Record<string, string> =>
  user ? { authorization: `Basic ${Buffer.from(`${user}:`).toString("base64")}` } : {};

/** For whom a guest agent is asked: a user of the sandbox, and the request that the logs on the way name. */
export type Asker = { user?: string | undefined; requestId?: string | undefined };

/** A client of the guest agent in `sandbox`, through its host. */
export function guestOf(host: Host, sandbox: SandboxId, { user, requestId }: Asker = {}): Guest {
  const headers = { ...asUser(user), ...(requestId && { [names.requestId]: requestId }) };
  const agent = { sandbox, port: agentPort };
  const transport: Transport = createConnectTransport({
    baseUrl: "",
    useBinaryFormat: true,
    fetch: (async (path: string, init?: FetchInit) => {
      const response = await host.guest(agent, String(path), withHeaders(init, headers));
      return response.ok ? response : await refused(response);
    }) as typeof fetch,
  });
  return {
    processes: createClient(processes.Process, transport),
    filesystem: createClient(filesystem.Filesystem, transport),
    async http(path, init) {
      const response = await host.guest(agent, path, withHeaders(init, headers));
      if (!response.ok) throw httpError(response.status, await response.text());
      return response;
    },
  };
}

function withHeaders(init: FetchInit = {}, more: Record<string, string>): FetchInit {
  const headers = new Headers(init.headers);
  for (const [name, value] of Object.entries(more)) headers.set(name, value);
  return { ...init, headers };
}

/** The host refuses in our envelope, the agent in Connect's: the first is thrown, the second is the client's to read. */
async function refused(response: Response): Promise<Response> {
  const text = await response.text();
  const error = WrennError.fromBody(parse(text));
  if (error) throw toConnectError(error);
  return new Response(text, { status: response.status, headers: response.headers });
}

const statusCode: Partial<Record<number, Code>> = {
  400: "invalid_request",
  401: "invalid_request",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  413: "too_large",
  507: "insufficient_storage",
  502: "host_unavailable",
  503: "host_unavailable",
};

/** The agent's own HTTP errors are `{code: int, message}`; its 401 speaks of the user in the request, not of our caller. */
function httpError(status: number, text: string): WrennError {
  const body = parse(text) as { message?: unknown } | undefined;
  const known = WrennError.fromBody(body);
  if (known) return known;
  const message = typeof body?.message === "string" ? body.message : `The guest agent answered with status ${status}.`;
  return new WrennError(statusCode[status] ?? "agent_error", message);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
