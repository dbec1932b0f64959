#!/usr/bin/env bun
import { parseArgs } from "node:util";
import { version, WrennError } from "@wrenn/contract";
import { startTracing } from "@wrenn/contract/start-tracing";
import pino from "pino";
import { compile, defaultDir } from "./config.ts";
import { startMember } from "./fleet/member.ts";
import { flagsToServe, wishOf } from "./fleet/membership.ts";
import { probe } from "./probe.ts";

const help = `wrenn-agent ${version}: runs sandboxes on this machine

Usage:
  wrenn-agent [--dir DIR] [--listen HOST:PORT]    serve until SIGTERM; sandboxes are paused then. SIGUSR2 hands over to
                                                  the program as it is installed now: no VM stops, sandboxes run on
  wrenn-agent --register TOKEN --address HOST:PORT
                                                  join the fleet of WRENN_CP_URL, then serve; later starts need no flag
  wrenn-agent --register TOKEN --dial             the same for a machine that nothing can connect to (NAT, firewall): the
                                                  agent connects to the control plane, and needs no open port
  wrenn-agent probe [--json]                      what this machine has, and the drivers chosen for that

Environment:
  WRENN_DIR                data folder (default ${defaultDir()})
  WRENN_HOST_LISTEN_ADDR   HOST:PORT (default 127.0.0.1:50051; port 0 picks one)
  WRENN_HOST_TOKEN         secret shared with the control plane, 16 characters or more; a registered host needs none
  WRENN_CP_URL             http(s)://HOST:PORT of the control plane to register with
  WRENN_REGISTRATION_TOKEN, WRENN_HOST_ADDRESS   in place of --register and --address: a host without an identity
                           registers when it starts; later starts take no notice of the token
  WRENN_VMM, WRENN_ACCEL   overrule the probe: qemu or firecracker; kvm or tcg
  WRENN_NETWORK            overrules the probe: user-mode or netns-tap
  WRENN_DISKS              reflink keeps disk layers as files that share blocks (needs XFS or btrfs)
  WRENN_JAILER             off runs Firecracker without its jailer (default on, where it is installed)
  WRENN_DISK_MIB_PER_S, WRENN_DISK_OPS_PER_S   what a guest may do to its disk (Firecracker; default no limit)
  WRENN_NET_MBIT_PER_S     what a guest may receive, and as much send (Firecracker; default no limit)
  WRENN_EGRESS             open or none; default: public addresses only as root, none otherwise
  WRENN_POOL               machines kept ready for each template in use (default 1; 0 for none)
  WRENN_DRAIN_SECONDS      how long a stop may take to pause sandboxes (default 240); the others run on and are adopted
  WRENN_METRICS_TOKEN      opens Prometheus' /metrics to who carries it as a bearer token
  WRENN_REGISTRIES         registries inside this machine's networks that images may come from, such as registry.lan:5000
  WRENN_GUEST_DIR          what imported images are given (default: guest/ beside this program)
  WRENN_STORE              where hibernated sandboxes go: a folder, or s3://BUCKET/PREFIX (default store/ in the data folder)
  S3_ENDPOINT, S3_REGION, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY   of that bucket; AWS_… are read too
  OTEL_EXPORTER_OTLP_ENDPOINT  OpenTelemetry collector (OTLP over HTTP) that traces go to
  LOG_LEVEL                trace, debug, info, warn, error (default info)

Examples:
  WRENN_HOST_TOKEN=$(openssl rand -hex 32) wrenn-agent --listen 127.0.0.1:0
  WRENN_CP_URL=https://wrenn.example.com wrenn-agent --register $TOKEN --address 10.0.0.7:50051
`;

const { env } = process;
const log = pino(
  { level: env.LOG_LEVEL || "info", base: { program: "wrenn-agent" }, serializers: { error: pino.stdSerializers.err } },
  pino.destination({ dest: 2, sync: true }),
);

function readArgs() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        version: { type: "boolean", short: "v" },
        json: { type: "boolean" },
        dir: { type: "string" },
        listen: { type: "string" },
        register: { type: "string" },
        address: { type: "string" },
        dial: { type: "boolean" },
      },
    });
  } catch (thrown) {
    console.error(`error: ${(thrown as Error).message}\nremedy: wrenn-agent --help lists what it takes`);
    process.exit(2);
  }
}

const { values, positionals } = readArgs();
const options = {
  dir: values.dir ?? (env.WRENN_DIR || undefined),
  listen: values.listen ?? (env.WRENN_HOST_LISTEN_ADDR || undefined),
  token: env.WRENN_HOST_TOKEN,
  vmm: env.WRENN_VMM || undefined,
  accelerator: env.WRENN_ACCEL || undefined,
  egress: env.WRENN_EGRESS || undefined,
  guestDir: env.WRENN_GUEST_DIR || undefined,
  registries: env.WRENN_REGISTRIES || undefined,
  network: env.WRENN_NETWORK || undefined,
  disks: env.WRENN_DISKS || undefined,
  jailer: env.WRENN_JAILER || undefined,
  diskMibPerSecond: env.WRENN_DISK_MIB_PER_S || undefined,
  diskOpsPerSecond: env.WRENN_DISK_OPS_PER_S || undefined,
  netMbitPerSecond: env.WRENN_NET_MBIT_PER_S || undefined,
  poolSize: env.WRENN_POOL || undefined,
  drainSeconds: env.WRENN_DRAIN_SECONDS || undefined,
  metricsToken: env.WRENN_METRICS_TOKEN || undefined,
  store: env.WRENN_STORE || undefined,
};

async function runProbe(): Promise<void> {
  const { qemu, qemuImg, ...findings } = await probe(compile({ ...options, token: "unused by the probe" }));
  if (values.json) return console.log(JSON.stringify(findings));
  for (const { name, ok, detail, remedy } of findings.probes)
    console.log(`${ok ? "ok     " : "missing"}  ${name.padEnd(13)} ${detail}${remedy ? `\n         ${remedy}` : ""}`);
  console.log(
    `vmm ${findings.vmm}, accelerator ${findings.accelerator}, disk ${findings.disk}, network ${findings.network}`,
  );
}

async function runServer(): Promise<void> {
  const tracing = await startTracing("wrenn-agent");
  let stopping = false;
  const stop = async (why: string) => {
    if (stopping) return;
    stopping = true;
    log.info({ why }, "stopping: sandboxes are paused");
    await agent.stop({ pause: true });
    await tracing?.[Symbol.asyncDispose]();
    process.exit(0);
  };
  /** Becomes the program that is installed by now, as the same process: it adopts the VMs, which run on. */
  const handOver = async () => {
    if (stopping) return;
    stopping = true;
    log.info("handing over to the program as it is installed now");
    await agent.stop({ pause: false });
    become(process.env as Record<string, string>, flagsToServe(values));
  };
  const wish = wishOf(values, env);
  const agent = await startMember(options, wish, { log, onDeleted: () => void stop("the host was deleted") });
  process.on("SIGTERM", () => void stop("SIGTERM"));
  process.on("SIGINT", () => void stop("SIGINT"));
  process.on("SIGUSR2", () => void handOver());
  console.log(JSON.stringify({ ready: true, address: agent.address }));
}

async function main(): Promise<void> {
  if (values.help) return console.log(help);
  if (values.version) return console.log(version);
  const [command, ...rest] = positionals;
  if (command === "probe" && rest.length === 0) return runProbe();
  if (command !== undefined) {
    console.error(`error: unknown command "${positionals.join(" ")}"\nremedy: wrenn-agent --help lists them`);
    process.exit(2);
  }
  return runServer();
}

/** Replaces this process by its program, as it is installed now. */
function become(environment: Record<string, string>, args: readonly string[]): never {
  const script = Bun.main.startsWith("/$bunfs/") ? [] : [Bun.main];
  process.execve!(process.execPath, [process.execPath, ...script, ...args], environment);
  throw new Error("execve came back");
}

/** Bun makes at most 256 outgoing requests at once unless told otherwise, and reads this only when a process begins. */
const manyRequests = { BUN_CONFIG_MAX_HTTP_REQUESTS: "65000" };

if (!env.BUN_CONFIG_MAX_HTTP_REQUESTS)
  become({ ...env, ...manyRequests } as Record<string, string>, process.argv.slice(2));

await main().catch((thrown) => {
  const error = WrennError.from(thrown);
  if (error.code === "internal_error") log.fatal({ error: error.cause ?? error }, "could not start");
  console.error(`error: ${error.message}${error.remedy ? `\nremedy: ${error.remedy}` : ""}`);
  process.exit(error.code === "invalid_request" ? 2 : 1);
});
