import { timingSafeEqual } from "node:crypto";
import { createConnectRouter } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import { headers, hostagent, version, WrennError } from "@wrenn/contract";
import { served } from "@wrenn/contract/tracing";
import type { Logger } from "pino";
import type { Credentials, HostConfig } from "./config.ts";
import type { Metrics } from "./metrics/exposition.ts";
import { archivePath, takeArchive } from "./oci/archives.ts";
import { exportPath, exportTemplate } from "./oci/exports.ts";
import { forward, upgrade } from "./proxy.ts";
import { hostService, type Told } from "./service.ts";
import { volumeRoute, volumesPath } from "./volumes/routes.ts";
import type { Volumes } from "./volumes/volumes.ts";
import { type Bridge, bridging } from "./websocket.ts";

/** Streams may be silent for long (a command that computes); Bun's idle timer would cut them. */
const idleTimeoutSec = 0;

/** What is served. */
export type Served = Told & {
  readonly metrics: Metrics;
  readonly volumes: Volumes;
};

/** TLS 1.3, as the wire names it (RFC 8446, section 4.2.1). */
const tls13 = 0x0304;

/** What a registered host shows, and who may call it: holders of a certificate of the same authority, made for clients. */
const mutual = ({ cert, key, ca }: Credentials) => ({
  tls: { cert, key, ca, requestCert: true, rejectUnauthorized: true, minVersion: tls13 },
  reusePort: true, // the next listener takes over with a renewed certificate while this one finishes
});

/** The host agent's listener: RPC, the proxy to the guests, and a health check. Everything but the last needs the token. */
export function serve(config: HostConfig, served: Served, log: Logger): Bun.Server<Bridge> {
  const { sandboxes, metrics } = served;
  const handlers = new Map(
    hostService(createConnectRouter(), served).handlers.map((handler) => [
      handler.requestPath,
      createFetchHandler(handler),
    ]),
  );
  const route = async (request: Request, server: Bun.Server<Bridge>): Promise<Response | undefined> => {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return Response.json({ status: "ok", version });
    if (pathname === "/metrics" && isScraper(request, config.metricsToken)) return metrics.answer();
    if (!isTrusted(request, config.token))
      throw new WrennError("unauthorized", "the host token is missing or wrong", {
        remedy: `Send the host agent's WRENN_HOST_TOKEN in the header ${headers.hostToken}.`,
      });
    if (pathname.startsWith("/proxy/"))
      return request.headers.has("sec-websocket-key")
        ? upgrade(request, server, sandboxes)
        : forward(request, sandboxes);
    if (pathname === "/metrics") return metrics.answer();
    if (pathname.startsWith(archivePath)) return takeArchive(request, sandboxes.kitchen.templates.importer);
    if (pathname.startsWith(exportPath)) return exportTemplate(request, sandboxes.kitchen);
    if (pathname.startsWith(volumesPath)) return volumeRoute(request, served.volumes);
    const handler = handlers.get(pathname);
    if (handler) return await noted(request, pathname, () => handler(request), log);
    throw new WrennError("not_found", `no such path: ${pathname}`);
  };
  return Bun.serve<Bridge>({
    hostname: config.hostname,
    port: config.port,
    ...(config.credentials && mutual(config.credentials)),
    idleTimeout: idleTimeoutSec,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER, // files pass through as streams, of any size
    websocket: bridging,
    fetch: (request, server) =>
      route(request, server).catch((thrown) => {
        const error = WrennError.from(thrown);
        const level = error.status >= 500 ? "error" : "debug";
        log[level](
          {
            requestId: request.headers.get(headers.requestId) ?? undefined,
            path: new URL(request.url).pathname,
            ...{ code: error.code, error: error.cause ?? error },
          },
          error.message,
        );
        return Response.json(error, { status: error.status });
      }),
  });
}

/** A stream that lasts as long as its client does: neither a span nor a line of the log. */
const endless = `/${hostagent.HostAgentService.typeName}/${hostagent.HostAgentService.method.watchSandboxes.name}`;

/** Answers a call in a span of its caller's trace, and tells the log of those that were made for somebody's request. */
async function noted(request: Request, path: string, answer: () => Promise<Response>, log: Logger): Promise<Response> {
  if (path === endless) return answer();
  const started = performance.now();
  const method = path.slice(path.lastIndexOf("/") + 1);
  const requestId = request.headers.get(headers.requestId);
  return await served(request.headers, method, async (span) => {
    span.setAttributes({ "rpc.system": "connect_rpc", "rpc.method": method });
    if (requestId) span.setAttribute("wrenn.request_id", requestId);
    const response = await answer();
    span.setAttribute("http.response.status_code", response.status);
    const ms = Math.round(performance.now() - started);
    if (requestId) log.info({ requestId, method, status: response.status, ms }, "call");
    return response;
  });
}

const isTrusted = (request: Request, token: string): boolean => same(request.headers.get(headers.hostToken), token);

/** Scrapers send bearer tokens; one of theirs opens nothing else. */
const isScraper = (request: Request, token: string | undefined): boolean =>
  token !== undefined && same(request.headers.get("authorization"), `Bearer ${token}`);

function same(given: string | null, wanted: string): boolean {
  const [left, right] = [Buffer.from(given ?? ""), Buffer.from(wanted)];
  return left.length === right.length && timingSafeEqual(left, right);
}
