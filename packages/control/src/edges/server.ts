import { WrennError } from "@wrenn/contract";
import type { Config } from "../config.ts";
import type { Events } from "../services/events.ts";
import type { Tasks } from "../services/tasks.ts";
import type { KeyPair } from "../tls/authority.ts";
import type { BuildStreams } from "./builds/stream.ts";
import type { Lanes } from "./dashboard/lanes.ts";
import type { App } from "./endpoint.ts";
import type { TunnelDoor } from "./fleet/tunnel.ts";
import type { Ingress } from "./ingress.ts";
import { type Connection, socketHandlers } from "./socket.ts";
import type { Streams } from "./streams.ts";

/** A connection on which no request is under way is closed after this. Seconds. */
const idleSeconds = 255;

/** How long a stop waits for requests under way; a transfer may be longer than anybody wants to wait for. */
const graceMs = 10_000;

/** Whom a request is for, as every reader of it reads that: one name or address, and perhaps a port (RFC 9112, section 3.2). */
const oneHost = /^(?:[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;
const namesOneHost = ({ headers }: Request): boolean => oneHost.test(headers.get("host") ?? "");

const misnamed = (): Response =>
  Response.json(
    new WrennError("invalid_request", "The request names no host, several, or a malformed one.", {
      remedy: "Send one Host header with a name and perhaps a port.",
    }),
    { status: 400 },
  );

/** A listening server; disposing it lets requests under way finish. */
export type Server = AsyncDisposable & { readonly address: string; readonly secureAddress?: string };

/** Ends the lines of hosts when nothing under way needs them any more. */
async function hangUp(servers: readonly Bun.Server<Connection>[], { tasks, door }: Edges): Promise<void> {
  const end = Date.now() + graceMs;
  while (Date.now() < end && servers.some(({ pendingRequests }) => pendingRequests > 0)) await Bun.sleep(20);
  await tasks.idle();
  door.tunnels.hangUp();
}

/** What serves requests: by host name the ports of sandboxes, then the WebSockets, then everything else. */
export type Edges = {
  app: App;
  streams: Streams;
  buildStreams: BuildStreams;
  lanes: Lanes;
  ingress: Ingress;
  door: TunnelDoor;
  events: Pick<Events, "close">;
  tasks: Pick<Tasks, "idle">;
};

/** Listens and hands each request to its edge. `pair` is shown on the HTTPS address, if the configuration has one. */
export function serve(config: Config, edges: Edges, pair?: KeyPair): Server {
  const { app, streams, buildStreams, lanes, ingress, door, events } = edges;
  const listen = (hostname: string, port: number, tls?: KeyPair) =>
    Bun.serve<Connection>({
      hostname,
      port,
      // Browsers and SDKs that offer HTTP/2 get it; WebSockets come by HTTP/1.1 on connections of their own.
      ...(tls && { tls, http2: true }),
      idleTimeout: idleSeconds,
      development: false,
      // Uploads are streamed through, so their size is the disk's business; JSON bodies are limited where they are read.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      websocket: socketHandlers,
      async fetch(request, self) {
        self.timeout(request, 0);
        if (!namesOneHost(request)) return misnamed();
        if (ingress.matches(request)) return await ingress.serve(request, self);
        const env = { peer: (of: Request) => self.requestIP(of)?.address };
        if (!request.headers.has("upgrade")) return app.fetch(request, env);
        const upgraded =
          (await streams.upgrade(request, self)) ??
          (await buildStreams.upgrade(request, self)) ??
          (await lanes.upgrade(request, self)) ??
          (await door.upgrade(request, self));
        return upgraded === true ? undefined : (upgraded ?? app.fetch(request, env));
      },
    });
  const server = listen(config.hostname, config.port);
  const secure = pair && config.tls && listen(config.tls.hostname, config.tls.port, pair);
  const addressOf = ({ hostname, port }: typeof server) =>
    `${hostname!.includes(":") ? `[${hostname}]` : hostname}:${port}`;
  return {
    address: `http://${addressOf(server)}`,
    ...(secure && { secureAddress: `https://${addressOf(secure)}` }),
    async [Symbol.asyncDispose]() {
      streams.close();
      buildStreams.close();
      lanes.close();
      ingress.close();
      events.close();
      const both = secure ? [server, secure] : [server];
      void hangUp(both, edges);
      await Promise.race([Promise.all(both.map((one) => one.stop())), Bun.sleep(graceMs)]);
      await Promise.all(both.map((one) => one.stop(true)));
    },
  };
}
