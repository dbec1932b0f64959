#!/usr/bin/env bun
import "reflect-metadata"; // @peculiar/x509 looks for it when it is loaded, and a bundle keeps the order of this file only
import { version, WrennError } from "@wrenn/contract";
import { startTracing } from "@wrenn/contract/start-tracing";
import { fromEnvironment } from "./config.ts";
import { environment } from "./config-file.ts";

const help = `wrenn-cp ${version}: the control plane of Wrenn

Usage:
  wrenn-cp                        serve until SIGTERM
  wrenn-cp migrate [--to NUMBER]  bring the database up to date, or back to a migration (stop every replica first)
  wrenn-cp backup FILE            write everything that is in the database to a file, while it is in use
  wrenn-cp restore FILE           fill an empty database from such a file
  wrenn-cp --help | --version

Options are read from the environment, and from the file that --config FILE or WRENN_CONFIG names: lines NAME=VALUE, as
systemd and Docker have them; the environment goes first.

Environment:
  DATABASE_URL             PostgreSQL, postgres://USER:PASSWORD@HOST/NAME
  CP_HOST_AGENT_ADDR       HOST:PORT of the local host agent; absent where all hosts register themselves
  WRENN_HOST_TOKEN         the secret shared with the local host agent
  WRENN_PLACEMENT          least-loaded (default), bin-pack or round-robin
  WRENN_MEMORY_OVERCOMMIT  how often a host's memory may be lent, default 3
  WRENN_PRIVATE_DESTINATIONS  1 lets notification channels write to private addresses
  WRENN_CP_LISTEN_ADDR     HOST:PORT, default 127.0.0.1:9725; port 0 picks one
  WRENN_BOOTSTRAP_API_KEY  API key of the local team, made to exist at start
  WRENN_PROXY_DOMAIN       DOMAIN[:PORT] of sandbox ports, {port}-{id}.DOMAIN; default the host that was asked
  WRENN_TLS_LISTEN_ADDR    HOST:PORT of HTTPS beside HTTP; without it there is none
  WRENN_TLS_CERT, WRENN_TLS_KEY  PEM files for DOMAIN and *.DOMAIN; default one of the authority in $WRENN_DIR/tls
  WRENN_METRICS_TOKEN      what a scraper of /metrics shows as Authorization: Bearer; without it there are none
  WRENN_DASHBOARD_DIR      folder of the built dashboard; default dashboard/ beside this program
  WRENN_CA_CERT, WRENN_CA_KEY  PEM text of the authority that names hosts (P-256); without them one is made and kept
  WRENN_ENCRYPTION_KEY     64 hex digits; what secrets that must be read again are encrypted with
  CP_PUBLIC_URL            where browsers find this server, for links in mails and sign-in by providers
  OAUTH_REDIRECT_URL       where browsers find the dashboard, if it is somewhere else
  WRENN_EXTENSIONS         absolute paths of modules that add to the server, separated by commas
  WRENN_CORS_ORIGINS       other origins whose pages may call the API, separated by commas
  WRENN_SIGNUP             who may make an account: open (default), invite or closed; the first always may
  WRENN_TRUSTED_PROXIES    how many reverse proxies append to X-Forwarded-For, default 0
  SMTP_HOST, SMTP_PORT, SMTP_USERNAME, SMTP_PASSWORD, SMTP_FROM_EMAIL
                           the mail server; without it mails wait in GET /v1/dev/outbox
  OAUTH_GITHUB_CLIENT_ID, OAUTH_GITHUB_CLIENT_SECRET, OAUTH_GITHUB_URL
                           sign-in with GitHub, or with the GitHub Enterprise server of that address
  WRENN_OIDC_ISSUER, WRENN_OIDC_CLIENT_ID, WRENN_OIDC_CLIENT_SECRET, WRENN_OIDC_NAME
                           sign-in with any issuer of OpenID Connect
  OTEL_EXPORTER_OTLP_ENDPOINT  OpenTelemetry collector (OTLP over HTTP) that traces go to; without it there are none
  LOG_LEVEL                default info

Examples:
  DATABASE_URL=postgres://wrenn:secret@db/wrenn WRENN_CP_LISTEN_ADDR=0.0.0.0:9725 wrenn-cp
  wrenn-cp --config /etc/wrenn/wrenn-cp.env backup /var/backups/wrenn.backup
`;

/** Bun serves at most 256 outgoing requests at once unless told otherwise, and reads this only when a process begins. */
const manyRequests = { BUN_CONFIG_MAX_HTTP_REQUESTS: "65000" };

/** After that what starting left behind is given back: the collector waits for more, and an idle server makes none. */
const settledMs = 3_000;

const exitUsage = 2;
const exitFailure = 1;

function fail(thrown: unknown): never {
  const error = WrennError.from(thrown);
  const text = error === thrown ? error.message : Bun.inspect(thrown);
  process.stderr.write(`error: ${text}\n${error.remedy ? `remedy: ${error.remedy}\n` : ""}`);
  process.exit(error.code === "invalid_request" ? exitUsage : exitFailure);
}

async function main(args: readonly string[]): Promise<void> {
  if (args.includes("--help") || args.includes("-h")) return void process.stdout.write(help);
  if (args.includes("--version")) return void process.stdout.write(`${version}\n`);
  const { env, rest } = await environment(args, process.env);
  if (rest.length > 0) {
    const { operate } = await import("./operations/index.ts");
    return await operate(rest, env.DATABASE_URL);
  }
  const options = fromEnvironment(env);
  const tracing = await startTracing("wrenn-cp");
  const { start } = await import("./index.ts"); // only now: a refusal should not wait for the whole program
  const plane = await start(options);
  process.stdout.write(`${JSON.stringify({ ready: true, address: plane.address })}\n`);
  setTimeout(() => Bun.gc(true), settledMs).unref();
  let stopping = false;
  const stop = () => {
    if (stopping) process.exit(exitFailure); // asked twice: do not wait
    stopping = true;
    plane
      .stop()
      .then(() => tracing?.[Symbol.asyncDispose]())
      .then(() => process.exit(0), fail);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}

if (process.env.BUN_CONFIG_MAX_HTTP_REQUESTS) await main(process.argv.slice(2)).catch(fail);
else {
  const script = Bun.main.startsWith("/$bunfs/") ? [] : [Bun.main];
  process.execve!(process.execPath, [process.execPath, ...script, ...process.argv.slice(2)], {
    ...process.env,
    ...manyRequests,
  } as Record<string, string>);
}
