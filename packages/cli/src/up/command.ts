import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { Command } from "commander";
import { type Profile, profilePath, Wrenn } from "wrenn";
import { signInLink } from "../commands/dashboard.ts";
import { Failure, paint, print, printJson } from "../output.ts";
import { findImages, folderPath, prepareFolder, readSecrets, type Secrets, writeWhole } from "./folder.ts";
import { agentPort, checkFree, httpsBeside, type Listen, parseListen } from "./listen.ts";
import { Lock } from "./lock.ts";
import { isFirstStart, preparePostgres } from "./postgres.ts";
import { pathLine, programCommand } from "./programs.ts";
import { Progress } from "./progress.ts";
import { type ChildPlan, readyLine, Supervised, tied } from "./supervisor.ts";

type UpFlags = { dir?: string; listen: string; json?: boolean };

/** `wrenn up`. */
export const upCommand = (): Command =>
  new Command("up")
    .description("run everything on this machine: server, host agent and database, until Ctrl-C")
    .option("--dir <path>", "data folder; default WRENN_DIR, else /var/lib/wrenn or ~/.local/share/wrenn")
    .option(
      "--listen <host:port>",
      "address of the server; port 0 picks one",
      process.env.WRENN_CP_LISTEN_ADDR || "127.0.0.1:9725",
    )
    .option("--json", "print one line when ready: {url, httpsPort, apiKey, dashboard, pid}")
    .addHelpText("after", "\nExample:\n  wrenn up --listen 127.0.0.1:9725")
    .action(async (flags: UpFlags) => {
      await up(flags);
      process.exit(0); // streams of children that were killed may never close
    });

/** Everything that has been started, in the order of starting. */
type Running = { children: Supervised[]; failed: Promise<Failure>; giveUp: (failure: Failure) => void };

async function up(flags: UpFlags): Promise<void> {
  const listen = parseListen(flags.listen);
  const https = httpsBeside(listen);
  const dir = folderPath(flags.dir);
  const progress = new Progress();
  const stopped = stopSignal();
  // Whoever read the line of a ready server may go: the server stays.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  await prepareFolder(dir);
  await using lock = await Lock.take(dir, (name) =>
    progress.note(`stopping ${name}, left running by an earlier start`),
  );
  checkFree(listen);
  const { promise: failed, resolve: giveUp } = Promise.withResolvers<Failure>();
  const running: Running = { children: [], failed, giveUp };
  let failure: Failure | undefined;
  try {
    const started = startAll({ dir, listen, https, lock, progress, running });
    const profile = await Promise.race([started, stopped, failed]);
    if (profile instanceof Failure) throw profile;
    if (profile === "stop")
      await started.catch(() => {}); // what is half started cannot be stopped in order
    else {
      await writeProfile(profile);
      const { url: dashboard } = await signInLink(new Wrenn({ baseUrl: profile.url, apiKey: profile.apiKey }));
      announce({ ...profile, dashboard, https, json: flags.json === true });
      await warnWithoutImages(dir, progress);
      const end = await Promise.race([stopped, failed]);
      failure = end instanceof Failure ? end : undefined;
    }
  } finally {
    await stopAll(running.children, progress);
  }
  if (failure) throw failure;
}

/** Resolves at the first signal that asks to end; further ones are taken as impatience and ignored. */
function stopSignal(): Promise<"stop"> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve("stop"));
  });
}

type Starting = { dir: string; listen: Listen; https: Listen; lock: Lock; progress: Progress; running: Running };

/** Database and host agent come up side by side; the server needs both. */
async function startAll(starting: Starting): Promise<Profile> {
  const { dir, progress } = starting;
  const secrets = await readSecrets(dir);
  const port = await agentPort(dir);
  const commands = { agent: await programCommand("wrenn-agent"), server: await programCommand("wrenn-cp") };
  const both = await Promise.allSettled([
    progress.step(await databaseTitle(dir), () => startDatabase(starting)),
    progress.step("host agent", () => startChild(starting, agentPlan(dir, commands.agent, { ...secrets, port }))),
  ]);
  for (const one of both) if (one.status === "rejected") throw one.reason;
  const [database, agent] = both.map((one) => (one as PromiseFulfilledResult<string>).value);
  const plan = serverPlan(starting, commands.server, { ...secrets, database: database!, agent: agent! });
  const url = await progress.step("server", () => startChild(starting, plan));
  return { url, apiKey: secrets.apiKey };
}

async function databaseTitle(dir: string): Promise<string> {
  if (process.env.DATABASE_URL) return "database given by DATABASE_URL";
  return (await isFirstStart(dir)) ? "database (made now, on the first start)" : "database";
}

async function startDatabase(starting: Starting): Promise<string> {
  if (process.env.DATABASE_URL) return process.env.DATABASE_URL;
  const { plan, url } = await preparePostgres(starting.dir);
  await startChild(starting, plan);
  return url;
}

function startChild({ lock, progress, running }: Starting, plan: ChildPlan): Promise<string> {
  const child = new Supervised(plan, {
    onStart: (identity) => lock.remember(identity),
    onRestart: (name, why) => progress.note(`${name} ended unexpectedly (${why}); starting it again`),
    onGiveUp: running.giveUp,
  });
  running.children.push(child);
  return child.start();
}

/** A restarted server listens where the first did, for its clients know that address. */
function keptAddress(first: string) {
  let address = first;
  return {
    current: () => address,
    learn: async (ready: Promise<string>) => {
      const url = await ready;
      address = new URL(url).host;
      return url;
    },
  };
}

type AgentNeeds = { hostToken: string; port: number };

function agentPlan(dir: string, command: string[], { hostToken, port }: AgentNeeds): ChildPlan {
  return {
    name: "wrenn-agent",
    command: () => tied(command, "TERM"),
    env: () => ({ WRENN_DIR: dir, WRENN_HOST_TOKEN: hostToken, WRENN_HOST_LISTEN_ADDR: `127.0.0.1:${port}` }),
    log: `${dir}/logs/wrenn-agent.log`,
    stopSignal: "SIGTERM",
    stopPatienceMs: 180_000, // it writes the memory of every running sandbox to disk
    readyTimeoutMs: 120_000, // its probe starts a VM, by emulation on some machines
    ready: readyLine,
  };
}

type ServerNeeds = Secrets & { database: string; agent: string };

function serverPlan({ dir, listen, https }: Starting, command: string[], needs: ServerNeeds): ChildPlan {
  const address = keptAddress(`${listen.hostname}:${listen.port}`);
  return {
    name: "wrenn-cp",
    command: () => tied(command, "TERM"),
    env: () => ({
      WRENN_DIR: dir,
      DATABASE_URL: needs.database,
      WRENN_CP_LISTEN_ADDR: address.current(),
      WRENN_TLS_LISTEN_ADDR: `${https.hostname}:${https.port}`,
      CP_HOST_AGENT_ADDR: needs.agent,
      WRENN_HOST_TOKEN: needs.hostToken,
      WRENN_BOOTSTRAP_API_KEY: needs.apiKey,
      WRENN_ENCRYPTION_KEY: needs.encryptionKey,
    }),
    log: `${dir}/logs/wrenn-cp.log`,
    stopSignal: "SIGTERM",
    stopPatienceMs: 15_000,
    readyTimeoutMs: 60_000,
    ready: (child) => address.learn(readyLine(child)),
  };
}

/** In the reverse order of their need for each other; every one is stopped even when another fails to. */
async function stopAll(children: readonly Supervised[], progress: Progress): Promise<void> {
  const order = ["wrenn-cp", "wrenn-agent", "PostgreSQL"];
  for (const name of order)
    for (const child of children.filter((one) => one.plan.name === name))
      await progress.step(`stop ${name}${name === "wrenn-agent" ? ", which pauses running sandboxes" : ""}`, () =>
        child.stop(),
      );
}

async function writeProfile(profile: Profile): Promise<void> {
  const path = profilePath();
  if (path === undefined) return;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeWhole(path, `${JSON.stringify(profile, undefined, 2)}\n`, 0o600);
}

type Announced = Profile & { dashboard: string; https: Listen; json: boolean };

function announce({ url, apiKey, dashboard, https, json }: Announced): void {
  const e2bKey = apiKey.replace(/^wrn_/, "e2b_");
  if (json) {
    printJson({ url, httpsPort: https.port, apiKey, dashboard, pid: process.pid });
    return;
  }
  const bold = (text: string) => paint("bold", text);
  print(`
${bold("Wrenn is ready.")}

  dashboard  ${bold(dashboard)}
  server     ${bold(url)}
  API key    ${bold(apiKey)}

The dashboard's link opens once; \`wrenn dashboard\` prints another.

Try it in another terminal (the key is stored for this user):

${pathLine()}  wrenn run -- python3 -c 'print(6 * 7)'
  id=$(wrenn create -t base)
  wrenn exec $id -- uname -a
  wrenn shell $id

or with any HTTP client:

  curl -s ${url}/v1/capsules -H 'X-API-Key: ${apiKey}' -H 'Content-Type: application/json' -d '{"template":"base"}'

or with a program written for E2B, as it is:

  export E2B_API_KEY=${e2bKey} E2B_API_URL=${url} E2B_SANDBOX_URL=${url}

(or over HTTPS, after \`wrenn trust\`: E2B_API_KEY and E2B_DOMAIN=wrenn.localhost:${https.port})

The first sandbox of a template waits while it boots once; every later one starts from its memory.
Ctrl-C stops everything; running sandboxes are paused and can be resumed after the next start.
`);
}

async function warnWithoutImages(dir: string, progress: Progress): Promise<void> {
  const { images, kernels } = await findImages(dir);
  if (images.length > 0 && kernels.length > 0) return;
  const missing = kernels.length === 0 ? "no kernel" : "no images";
  progress.note(`there is ${missing} in ${dir}, so no sandbox can start yet. Run: WRENN_DIR=${dir} make images`);
}
