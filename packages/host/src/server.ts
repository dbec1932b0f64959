import { timingSafeEqual } from "node:crypto";
import { createConnectRouter } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import { headers, version, WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import type { HostConfig } from "./config.ts";
import { forward, upgrade } from "./proxy.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { hostService } from "./service.ts";
import { type Bridge, bridging } from "./websocket.ts";

/** Streams may be silent for long (a command that computes); Bun's idle timer would cut them. */
const idleTimeoutSec = 0;

/** The host agent's listener: RPC, the proxy to the guests, and a health check. Everything but the last needs the token. */
export function serve(config: HostConfig, sandboxes: Sandboxes, log: Logger): Bun.Server<Bridge> {
  const handlers = new Map(
    hostService(createConnectRouter(), sandboxes).handlers.map((handler) => [
      handler.requestPath,
      createFetchHandler(handler),
    ]),
  );
  const route = async (request: Request, server: Bun.Server<Bridge>): Promise<Response | undefined> => {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return Response.json({ status: "ok", version });
    if (!isTrusted(request, config.token))
      throw new WrennError("unauthorized", "the host token is missing or wrong", {
        remedy: `Send the host agent's WRENN_HOST_TOKEN in the header ${headers.hostToken}.`,
      });
    if (pathname.startsWith("/proxy/"))
      return request.headers.has("sec-websocket-key")
        ? upgrade(request, server, sandboxes)
        : forward(request, sandboxes);
    const handler = handlers.get(pathname);
    if (handler) return handler(request);
    throw new WrennError("not_found", `no such path: ${pathname}`);
  };
  return Bun.serve<Bridge>({
    hostname: config.hostname,
    port: config.port,
    idleTimeout: idleTimeoutSec,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER, // files pass through as streams, of any size
    websocket: bridging,
    fetch: (request, server) =>
      route(request, server).catch((thrown) => {
        const error = WrennError.from(thrown);
        const level = error.status >= 500 ? "error" : "debug";
        log[level](
          { path: new URL(request.url).pathname, code: error.code, error: error.cause ?? error },
          error.message,
        );
        return Response.json(error, { status: error.status });
      }),
  });
}

function isTrusted(request: Request, token: string): boolean {
  const given = Buffer.from(request.headers.get(headers.hostToken) ?? "");
  const wanted = Buffer.from(token);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}
