import { headers, rest, version, WrennError } from "@wrenn/contract";
import { served } from "@wrenn/contract/tracing";
import type { Context, MiddlewareHandler } from "hono";
import { routePath } from "hono/route";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Services } from "../services/index.ts";
import { agentRoutes } from "./agent.ts";
import { buildRoutes } from "./builds/builds.ts";
import { templateRoutes } from "./builds/templates.ts";
import { capsuleRoutes } from "./capsules.ts";
import { commandRoutes } from "./commands.ts";
import type { Built } from "./dashboard/files.ts";
import { dashboard } from "./dashboard/index.ts";
import { docsRoutes } from "./docs.ts";
import { e2bRoutes } from "./e2b/index.ts";
import { type App, type Env, endpoint, newApp } from "./endpoint.ts";
import { eventRoutes } from "./events.ts";
import { type Extension, extend } from "./extension.ts";
import { fileRoutes } from "./files.ts";
import { channelRoutes } from "./fleet/channels.ts";
import { hostRoutes, openHostRoutes } from "./fleet/hosts.ts";
import { describeTunnel } from "./fleet/tunnel.ts";
import { usageRoutes } from "./fleet/usage.ts";
import { guard } from "./guard.ts";
import { leashed } from "./leash.ts";
import { metricRoutes } from "./metrics.ts";
import { identityRoutes } from "./network/identity.ts";
import { networkRoutes } from "./network/network.ts";
import type { Doorway } from "./people/client.ts";
import { auditing } from "./people/deeds.ts";
import { openRoutes, peopleRoutes } from "./people/index.ts";
import { portRoutes } from "./ports.ts";
import { refusal } from "./refusal.ts";
import { envelope, requestIdOf } from "./request-id.ts";
import { snapshotRoutes } from "./snapshots.ts";
import { describeStreams } from "./streams.ts";
import { logRoutes } from "./telemetry/logs.ts";
import { loadRoutes, telemetryRoutes } from "./telemetry/metrics.ts";
import { volumeRoutes } from "./volumes/volumes.ts";

/** Every HTTP route, on the services. */
export function buildApp(
  services: Services,
  {
    log,
    config,
    metrics,
    built,
    extensions,
  }: { log: Log; config: Config; metrics: Metrics; built: Built | undefined; extensions: readonly Extension[] },
): App {
  const app = newApp();
  app.use(observe(log, metrics));
  app.use(dashboard(built));
  app.use(guard(config.access.corsOrigins));
  const doorway: Doorway = { config: config.access };
  openRoutes(app, services, doorway); // before the door: who calls these is nobody yet
  openHostRoutes(app, services.hosts);
  describeTunnel(app);
  app.use("/v1/*", authenticate(services));
  app.use("/v1/*", leashed(services.access));
  app.use("/v1/*", auditing(services.audit));
  for (const { middleware } of extensions) if (middleware) app.use("/v1/*", middleware);
  endpoint(
    app,
    { method: "get", path: "/health", summary: "Whether the server answers.", status: 200, answer: rest.Health },
    async () => ({ status: "ok", version }),
  );
  usageRoutes(app, services.usage); // before the routes with an id in the same place
  loadRoutes(app, services.telemetry);
  capsuleRoutes(app, services);
  commandRoutes(app, services.commands);
  fileRoutes(app, services.files);
  snapshotRoutes(app, services.snapshots);
  templateRoutes(app, services);
  buildRoutes(app, services.builds, config.timings.keepAliveMs);
  portRoutes(app, services.ports, config.proxyDomain);
  eventRoutes(app, services, config.timings.keepAliveMs);
  agentRoutes(app, services.guests);
  e2bRoutes(app, services, { log, config });
  metricRoutes(app, metrics, config.metricsToken);
  telemetryRoutes(app, services.telemetry);
  networkRoutes(app, services.networks);
  identityRoutes(app, services.identities);
  volumeRoutes(app, services.volumes);
  logRoutes(app, services.telemetry);
  peopleRoutes(app, services, doorway);
  hostRoutes(app, services.hosts);
  channelRoutes(app, services.channels);
  extend(app, services, extensions);
  describeStreams(app);
  docsRoutes(app);
  app.notFound((c) => refuse(c, noRoute(c.req.method, c.req.path), log));
  app.onError((thrown, c) => refuse(c as Context<Env>, thrown, log));
  return app;
}

function observe(log: Log, metrics: Metrics): MiddlewareHandler<Env> {
  return async (c, next) => {
    const started = performance.now();
    const requestId = requestIdOf(c.req.raw);
    c.set("requestId", requestId);
    await served(c.req.raw.headers, c.req.method, async (span) => {
      await next();
      span.updateName(`${c.req.method} ${routeOf(c)}`);
      span.setAttributes({ "http.request.method": c.req.method, "http.route": routeOf(c), "url.path": c.req.path });
      span.setAttributes({ "http.response.status_code": c.res.status, "wrenn.request_id": requestId });
    });
    c.res.headers.set(headers.requestId, requestId);
    const ms = Math.round((performance.now() - started) * 100) / 100;
    metrics.answered({ method: c.req.method, route: routeOf(c), status: c.res.status, ms });
    log.info(
      { requestId, method: c.req.method, path: c.req.path, status: c.res.status, ms, team: c.get("team") },
      "request",
    );
  };
}

/** The pattern of the route that answered. */
const routeOf = (c: Context<Env>): string => {
  const pattern = routePath(c, -1);
  return pattern === "/*" || pattern === "/v1/*" ? "none" : pattern;
};

function authenticate(services: Services): MiddlewareHandler<Env> {
  return async (c, next) => {
    const caller = c.env?.admitted ?? (await services.access.open(c.req.raw, c.get("requestId")));
    c.set("team", caller.team);
    c.set("caller", caller);
    await next();
  };
}

const noRoute = (method: string, path: string) =>
  new WrennError("not_found", `There is no ${method} ${path}.`, { remedy: "See /docs for the routes there are." });

function refuse(c: Context<Env>, thrown: unknown, log: Log): Response {
  return refusal(c, { thrown, log }, (error) => c.json(envelope(error, c.get("requestId")), error.status));
}
