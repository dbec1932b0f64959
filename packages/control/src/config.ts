import { WrennError } from "@wrenn/contract";
import { type AccessConfig, type AccessOptions, accessFromEnvironment, compileAccess } from "./config-access.ts";
import { compileFleet, type FleetConfig, type FleetOptions, fleetFromEnvironment } from "./config-fleet.ts";
import { compileTls, type TlsConfig, type TlsOptions, tlsFromEnvironment } from "./config-tls.ts";
import { defaultDashboardDir } from "./edges/dashboard/files.ts";

/** Times that decide when something is given up; tests shorten them. */
export type Timings = {
  /** A host that no replica has heard of for this long has lost its sandboxes from sight. */
  hostLostMs: number;
  /** A sandbox between two settled states for longer than this belongs to nobody any more: longer than any host call. */
  abandonedMs: number;
  /** A creation that its host has not heard of after this has lost its maker, which calls the host within milliseconds. */
  unstartedMs: number;
  /** How often the three above are looked at. */
  sweepMs: number;
  /** A WebSocket that does not say who it is is closed after this (Wrenn REST API 8.9). */
  authMs: number;
  /** A comment line goes to every follower of events this often, so that proxies between keep the connection. */
  keepAliveMs: number;
  /** Volumes that a deleted team left on a host that was away are looked for this often. */
  volumesMs: number;
  /** What object stores need no more is looked for this often. */
  parcelsMs: number;
  /** How often a replica looks for hosts whose emptying nobody carries on. */
  drainsMs: number;
};

/** What a caller of `start` writes. */
export type Options = {
  databaseUrl: string;
  /** `HOST:PORT`; port 0 picks a free one. */
  listen?: string | undefined;
  fleet?: FleetOptions | undefined;
  bootstrapApiKey?: string | undefined;
  /** `DOMAIN[:PORT]` that the addresses of ports end in; the host that was asked when it is absent. */
  proxyDomain?: string | undefined;
  /** What a scraper of `/metrics` shows; without it there are none. */
  metricsToken?: string | undefined;
  /** Folder of the built dashboard; beside the program when it is absent. */
  dashboardDir?: string | undefined;
  logLevel?: string | undefined;
  /** Builds of templates that this server carries out at once; 0 leaves them to other servers. */
  buildsAtOnce?: number | undefined;
  timings?: Partial<Timings> | undefined;
  access?: AccessOptions | undefined;
  /** Absolute paths of modules that add to the server (docs/extensions.md). */
  extensions?: readonly string[] | undefined;
  /** HTTPS beside HTTP. */
  tls?: TlsOptions | undefined;
};

/** What the program reads: complete and checked. */
export type Config = Readonly<{
  databaseUrl: string;
  hostname: string;
  port: number;
  fleet: FleetConfig;
  bootstrapApiKey: string | undefined;
  proxyDomain: string | undefined;
  metricsToken: string | undefined;
  dashboardDir: string;
  logLevel: string;
  buildsAtOnce: number;
  timings: Readonly<Timings>;
  access: AccessConfig;
  extensions: readonly string[];
  tls: TlsConfig | undefined;
}>;

const defaults: Timings = {
  hostLostMs: 90_000,
  abandonedMs: 240_000,
  unstartedMs: 10_000,
  sweepMs: 10_000,
  authMs: 5_000,
  keepAliveMs: 15_000,
  volumesMs: 60_000,
  parcelsMs: 3_000,
  drainsMs: 5_000,
};

/** A build keeps a processor busy; two leave the smallest machine something for its sandboxes. */
const usualBuildsAtOnce = 2;

/** Checks and completes options. Throws `invalid_request` with a remedy. */
export function compile(options: Options): Config {
  const listen = options.listen ?? "127.0.0.1:9725";
  const [, hostname, port] = /^(.*):(\d+)$/.exec(listen) ?? [];
  if (port === undefined || Number(port) > 65_535)
    throw bad(`WRENN_CP_LISTEN_ADDR is "${listen}".`, "Set it to HOST:PORT, such as 127.0.0.1:9725.");
  if (options.proxyDomain && !/^[a-z0-9.-]+(:\d+)?$/i.test(options.proxyDomain))
    throw bad(`WRENN_PROXY_DOMAIN is "${options.proxyDomain}".`, "Set it to DOMAIN or DOMAIN:PORT, without `*.`.");
  return Object.freeze({
    databaseUrl: options.databaseUrl,
    hostname: hostname!.replace(/^\[|\]$/g, "") || "0.0.0.0",
    port: Number(port),
    fleet: compileFleet(options.fleet),
    bootstrapApiKey: options.bootstrapApiKey || undefined,
    proxyDomain: options.proxyDomain || undefined,
    metricsToken: options.metricsToken || undefined,
    dashboardDir: options.dashboardDir ?? defaultDashboardDir(),
    logLevel: options.logLevel ?? "info",
    buildsAtOnce: options.buildsAtOnce ?? usualBuildsAtOnce,
    timings: { ...defaults, ...options.timings },
    access: compileAccess(options.access),
    extensions: options.extensions ?? [],
    tls: compileTls(options.tls, options.proxyDomain),
  });
}

/** Reads options from the environment (docs/ARCHITECTURE.md, "Programs"). Throws `invalid_request` with a remedy. */
export function fromEnvironment(env: Readonly<Record<string, string | undefined>>): Options {
  const need = (name: string, remedy: string): string => {
    const value = env[name];
    if (!value) throw bad(`${name} is not set.`, remedy);
    return value;
  };
  return {
    databaseUrl: need(
      "DATABASE_URL",
      "Set it to postgres://USER:PASSWORD@HOST/NAME, or run `wrenn up`, which brings its own database.",
    ),
    fleet: fleetFromEnvironment(env),
    listen: env.WRENN_CP_LISTEN_ADDR || undefined,
    bootstrapApiKey: env.WRENN_BOOTSTRAP_API_KEY,
    proxyDomain: env.WRENN_PROXY_DOMAIN,
    metricsToken: env.WRENN_METRICS_TOKEN,
    dashboardDir: env.WRENN_DASHBOARD_DIR || undefined,
    logLevel: env.LOG_LEVEL || undefined,
    access: accessFromEnvironment(env),
    extensions: env.WRENN_EXTENSIONS?.split(",").map((path) => path.trim()),
    tls: tlsFromEnvironment(env),
    buildsAtOnce: wholeNumber(env, "WRENN_BUILDS"),
  };
}

function wholeNumber(env: Readonly<Record<string, string | undefined>>, name: string): number | undefined {
  const text = env[name];
  if (!text) return undefined;
  if (!/^\d{1,3}$/.test(text)) throw bad(`${name} is "${text}".`, "Set it to a whole number.");
  return Number(text);
}

const bad = (message: string, remedy: string) => new WrennError("invalid_request", message, { remedy });
