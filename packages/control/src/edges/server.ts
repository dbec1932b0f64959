import type { Config } from "../config.ts";
import type { Events } from "../services/events.ts";
import type { KeyPair } from "../tls/authority.ts";
import type { App } from "./endpoint.ts";
import type { Ingress } from "./ingress.ts";
import { type Connection, socketHandlers } from "./socket.ts";
import type { Streams } from "./streams.ts";

/** A connection on which no request is under way is closed after this. Seconds. */
const idleSeconds = 255;

/** How long a stop waits for requests under way; a transfer may be longer than anybody wants to wait for. */
const graceMs = 10_000;

/** A listening server; disposing it lets requests under way finish. */
export type Server = AsyncDisposable & { readonly address: string; readonly secureAddress?: string };

/** What serves requests: by host name the ports of sandboxes, then the WebSockets, then everything else. */
export type Edges = { app: App; streams: Streams; ingress: Ingress; events: Pick<Events, "close"> };

/** Listens and hands each request to its edge. `pair` is shown on the HTTPS address, if the configuration has one. */
export function serve(config: Config, { app, streams, ingress, events }: Edges, pair?: KeyPair): Server {
  const listen = (hostname: string, port: number, tls?: KeyPair) =>
    Bun.serve<Connection>({
      hostname,
      port,
      ...(tls && { tls }),
      idleTimeout: idleSeconds,
      development: false,
      // Uploads are streamed through, so their size is the disk's business; JSON bodies are limited where they are read.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      websocket: socketHandlers,
      async fetch(request, self) {
        self.timeout(request, 0);
        if (ingress.matches(request)) return await ingress.serve(request, self);
        const env = { peer: (of: Request) => self.requestIP(of)?.address };
        if (!request.headers.has("upgrade")) return app.fetch(request, env);
        const upgraded = await streams.upgrade(request, self);
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
      ingress.close();
      events.close();
      const both = secure ? [server, secure] : [server];
      await Promise.race([Promise.all(both.map((one) => one.stop())), Bun.sleep(graceMs)]);
      await Promise.all(both.map((one) => one.stop(true)));
    },
  };
}
