import type { Config } from "../config.ts";
import type { App } from "./endpoint.ts";

/** A connection that sends nothing for this long is closed; requests under way are not counted as idle. Seconds. */
const idleSeconds = 255;

/** A listening server; disposing it lets requests under way finish. */
export type Server = AsyncDisposable & { readonly address: string };

/** Listens and hands every request to the app. */
export function serve(config: Config, app: App): Server {
  const server = Bun.serve({
    hostname: config.hostname,
    port: config.port,
    idleTimeout: idleSeconds,
    // Uploads are streamed through, so their size is the disk's business; JSON bodies are limited where they are read.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    fetch(request, self) {
      self.timeout(request, 0);
      return app.fetch(request);
    },
  });
  return {
    address: `http://${server.hostname!.includes(":") ? `[${server.hostname}]` : server.hostname}:${server.port}`,
    [Symbol.asyncDispose]: () => server.stop(),
  };
}
