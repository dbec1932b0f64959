import { envdVersion, version } from "@wrenn/contract/core";
import { composeRoute, filesRoute } from "./files/routes.ts";
import { allowAnyOrigin, httpError, httpFailure, preflight, targetOf } from "./http.ts";
import { type Bearer, initialize } from "./identity/init.ts";
import { metrics } from "./metrics.ts";
import { systemCall } from "./native.ts";
import { openPort } from "./ports.ts";
import { since } from "./processes/history.ts";
import type { Rpc } from "./rpc.ts";
import { startVolumes } from "./volumes/start.ts";

/** What the paths act on. */
export type Agent = Bearer & {
  /** Its services, for paths such as `/process.Process/Start`. */
  readonly rpc: Rpc;
};

const syncNumber = 162; // x86-64

/** Paths that need no token: they check one themselves, or give nothing away. */
const open = new Set(["/health", "/files", "/init"]);

/** Sent by the server itself, without a line of this program: what callers ask most often, and at the start. */
const healthy = allowAnyOrigin(Response.json({ version, envdVersion }));

/** Serves `agent` until it is stopped; one whose identity fails serves nobody, its health included. */
export function listen(agent: Agent, { port, host: hostname }: { port: number; host: string }): Bun.Server<undefined> {
  const fetch = (request: Request) => respond(request, agent);
  const server = Bun.serve({
    port,
    hostname,
    // streams of commands and terminals may be silent for hours
    idleTimeout: 0,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    development: false,
    routes: { "/health": { GET: healthy } },
    fetch,
  });
  agent.identity.onFailure = () => server.reload({ routes: {}, fetch });
  return server;
}

/** Answers any request. */
async function respond(request: Request, agent: Agent): Promise<Response> {
  if (request.method === "OPTIONS") return preflight(request);
  return allowAnyOrigin(await route(request, agent));
}

async function route(request: Request, agent: Agent): Promise<Response> {
  const { path, query } = targetOf(request.url);
  const { identity } = agent;
  if (identity.failure) return httpError(500, "the identity of this sandbox could not be written down");
  if (!open.has(path) && !identity.accepts(request.headers.get("x-access-token")))
    return httpError(401, "unauthorized access, please provide a valid access token or method signing if supported");
  if (path.startsWith("/process.Process/") || path.startsWith("/filesystem.Filesystem/"))
    return agent.rpc(path, request);
  try {
    return await plainRoute(request, path, query, agent);
  } catch (thrown) {
    return httpFailure(thrown);
  }
}

async function plainRoute(request: Request, path: string, query: URLSearchParams, agent: Agent): Promise<Response> {
  const { identity } = agent;
  switch (`${request.method === "HEAD" ? "GET" : request.method} ${path}`) {
    case "GET /envs":
      return Response.json(identity.envs);
    case "GET /metrics":
      return Response.json(metrics());
    case "GET /logs":
      return Response.json(since(Number(query.get("after")) || 0));
    case "POST /init":
      return initialize(request, agent);
    case "POST /snapshot/prepare":
      Bun.gc(true); // what is not in the snapshot need not be copied by any restore
      return new Response(null, { status: 204 });
    case "POST /snapshot/sync":
      systemCall("sync", syncNumber); // returns when the disk has everything, and nothing else may happen meanwhile
      return new Response(null, { status: 204 });
    case "POST /volumes":
      return startVolumes(request);
    case "POST /files/compose":
      return composeRoute(request, identity);
  }
  const port = /^\/ports\/(\d{1,5})$/.exec(path)?.[1];
  if (port && request.method === "POST")
    return openPort(Number(port)) ? new Response(null, { status: 204 }) : httpError(404, "port is not open");
  if (path === "/files") return filesRoute(request, query, identity);
  return httpError(404, `no such path: ${path}`);
}
