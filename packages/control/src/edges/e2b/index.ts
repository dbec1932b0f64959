import { WrennError } from "@wrenn/contract";
import type { MiddlewareHandler } from "hono";
import type { Config } from "../../config.ts";
import type { Log } from "../../log.ts";
import type { Services } from "../../services/index.ts";
import type { App, Env } from "../endpoint.ts";
import { logRoutes } from "./logs.ts";
import { metricRoutes } from "./metrics.ts";
import type { Shows } from "./present.ts";
import { newRoutes } from "./route.ts";
import { sandboxRoutes } from "./sandboxes.ts";
import { secretRoutes } from "./secrets.ts";
import { snapshotRoutes } from "./snapshots.ts";
import { teamRoutes } from "./teams.ts";
import { templateRoutes, uploadRoute } from "./templates.ts";
import { volumeContentRoute, volumeRoutes } from "./volumes.ts";

/** First parts of the paths of the E2B dialect, which stand beside the Wrenn dialect's `/v1`. */
const roots = [
  "/sandboxes",
  "/v2/sandboxes",
  "/snapshots",
  "/templates",
  "/v2/templates",
  "/v3/templates",
  "/teams",
  "/secrets",
  "/volumes",
] as const;

/** Adds the REST paths of the E2B dialect: other words for the same services. */
export function e2bRoutes(app: App, services: Services, { log, config }: { log: Log; config: Config }): void {
  const { leases, snapshots, telemetry, ports, sandboxes } = services;
  const routes = newRoutes(log);
  const auth = authenticate(services);
  for (const root of roots) for (const path of [root, `${root}/*`]) routes.use(path, auth);
  const shows: Shows = (c) => ({
    domain: config.proxyDomain ?? domainOf(new URL(c.req.url)),
    agentToken: (id) => sandboxes.agentToken(id),
    trafficToken: (id) => ports.token(id),
  });
  metricRoutes(routes, leases, telemetry);
  sandboxRoutes(routes, leases, shows);
  snapshotRoutes(routes, leases, snapshots);
  templateRoutes(routes, services);
  uploadRoute(routes, services);
  logRoutes(routes, leases, telemetry);
  secretRoutes(routes, services.secrets);
  teamRoutes(routes, services.teams);
  volumeRoutes(routes, services.volumes);
  volumeContentRoute(app, services.volumes);
  // After all others: what this dialect does not have is refused in its words too.
  for (const root of roots) for (const path of [root, `${root}/*`]) routes.all(path, nothingThere);
  app.route("/", routes);
}

function nothingThere({ req }: { req: { method: string; path: string } }): never {
  throw new WrennError("not_found", `There is no ${req.method} ${req.path}.`, {
    remedy: "docs/e2b.md tells what is kept of this dialect.",
  });
}

/** What the names of ports end in below the server that was asked: addresses have no names below them. */
function domainOf({ hostname, host, port }: URL): string {
  const isAddress = /^[\d.]+$|^\[/.test(hostname);
  return isAddress ? `localhost${port && `:${port}`}` : host.replace(/^api\./, "");
}

function authenticate({ access }: Services): MiddlewareHandler<Env> {
  return async (c, next) => {
    const caller = await access.open(c.req.raw, c.get("requestId"));
    c.set("team", caller.team);
    c.set("caller", caller);
    await next();
  };
}
