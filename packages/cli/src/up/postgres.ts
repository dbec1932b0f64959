import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, chmod, chown, cp, mkdir, readFile, readlink, rename, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { Failure } from "../output.ts";
import { isRoot } from "./folder.ts";
import { processesIn, stop } from "./processes.ts";
import { postgresCandidates } from "./programs.ts";
import type { ChildPlan, Starting } from "./supervisor.ts";
import { tied } from "./supervisor.ts";

/** Where one database keeps its things, and as whom it runs. */
type Place = { home: string; data: string; socket: string; owner: Owner | undefined };

/** An unprivileged user: PostgreSQL refuses to run as root. */
type Owner = { uid: number; gid: number };

/** A database ready to be started, and its address. */
export type Postgres = { plan: ChildPlan; url: string };

/** Files of the package that only matter when compiling against it. */
const notNeeded = /\.a$|\/(include|pkgconfig)(\/|$)/;

/** A unix socket's path has 107 bytes (unix(7)); the name in it takes 16. */
const longestSocketDir = 90;

/** The folder of PostgreSQL's programs that would be used, or `undefined` when there are none. */
export async function findPostgres(): Promise<string | undefined> {
  for (const dir of postgresCandidates()) if (await isThere(join(dir, "bin/postgres"), constants.X_OK)) return dir;
  return undefined;
}

/** Whether the data folder has no database yet. */
export const isFirstStart = async (dir: string): Promise<boolean> => !(await isThere(join(dir, "postgres/data")));

const isThere = (path: string, mode?: number): Promise<boolean> =>
  access(path, mode).then(
    () => true,
    () => false,
  );

/** Makes the embedded database of a data folder ready to start: programs, user, folders, and the cluster on first use. */
export async function preparePostgres(dir: string): Promise<Postgres> {
  const source = await findPostgres();
  if (!source)
    throw new Failure(
      "PostgreSQL's programs are missing",
      "Run `make build`, set WRENN_POSTGRES_DIR, or give a database in DATABASE_URL.",
    );
  const place = await placeOf(dir);
  const programs = await runtime(source, place);
  await endLeftovers(place);
  await initialise(programs, place);
  const command = [join(programs, "bin/postgres"), "-D", place.data, ...settings(place)];
  const plan: ChildPlan = {
    name: "PostgreSQL",
    command: () => asOwner(tied(command, "INT"), place.owner),
    env: () => environment(programs),
    log: join(dir, "logs/postgres.log"),
    stopSignal: "SIGINT", // "fast shutdown": ends sessions, writes a checkpoint (PostgreSQL manual, 18.5)
    stopPatienceMs: 30_000,
    readyTimeoutMs: 60_000,
    ready: (starting) => ready(starting, place.data),
  };
  return { plan, url: `postgres://wrenn@/postgres?host=${encodeURIComponent(place.socket)}` };
}

/** The server answers the host's own processes only, durably, within a small memory. */
const settings = ({ socket }: Place): string[] =>
  Object.entries({
    listen_addresses: "",
    unix_socket_directories: socket,
    unix_socket_permissions: "0700",
    max_connections: "100",
    shared_buffers: "64MB",
    // One node without standbys: the least log that still survives a crash.
    wal_level: "minimal",
    max_wal_senders: "0",
    // Short queries on few rows: compiling or sharing them out costs more than it saves.
    jit: "off",
    max_parallel_workers_per_gather: "0",
    timezone: "UTC",
    log_timezone: "UTC",
  }).flatMap(([name, value]) => ["-c", `${name}=${value}`]);

async function placeOf(dir: string): Promise<Place> {
  const home = join(dir, "postgres");
  const data = join(home, "data");
  await mkdir(home, { recursive: true, mode: 0o711 });
  const owner = isRoot() ? await ownerOf(data) : undefined;
  const beside = join(home, "socket");
  const digest = createHash("sha256").update(home).digest("hex").slice(0, 12);
  const socket = Buffer.byteLength(beside) <= longestSocketDir ? beside : join(tmpdir(), `wrenn-${digest}`);
  await privateFolder(socket, owner);
  if (owner) await checkPassable(home, owner);
  return { home, data, socket, owner };
}

/** A folder that only its owner may enter. Where it was there before, it must have belonged to nobody else. */
async function privateFolder(path: string, owner: Owner | undefined): Promise<void> {
  await mkdir(path, { mode: 0o700 }).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code !== "EEXIST") throw thrown;
  });
  const { uid } = await stat(path);
  if (uid !== process.getuid?.() && uid !== owner?.uid)
    throw new Failure(`${path} belongs to another user`, "Remove it, or name a data folder with a shorter path.");
  await chmod(path, 0o700);
  if (owner) await chown(path, owner.uid, owner.gid);
}

/** The user a cluster belongs to already, else `wrenn`, made when missing, else an unprivileged one that is there. */
async function ownerOf(data: string): Promise<Owner> {
  const found = await stat(data).catch(() => undefined);
  if (found && found.uid !== 0) return { uid: found.uid, gid: found.gid };
  const existing = await userNamed("wrenn");
  if (existing) return existing;
  const useradd = Bun.which("useradd", { PATH: `${process.env.PATH}:/usr/sbin:/sbin` });
  if (useradd)
    Bun.spawnSync([
      useradd,
      "--system",
      "--user-group",
      "--no-create-home",
      "--home-dir",
      "/nonexistent",
      "--shell",
      "/usr/sbin/nologin",
      "wrenn",
    ]);
  const owner = (await userNamed("wrenn")) ?? (await userNamed("postgres")) ?? (await userNamed("nobody"));
  if (!owner) throw new Failure("no unprivileged user for PostgreSQL", "Create one: useradd --system wrenn");
  return owner;
}

async function userNamed(name: string): Promise<Owner | undefined> {
  const line = (await readFile("/etc/passwd", "utf8")).split("\n").find((one) => one.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return uid && gid ? { uid: Number(uid), gid: Number(gid) } : undefined;
}

/** Every folder above must let the database's user pass, or PostgreSQL fails with a message that does not say so. */
async function checkPassable(path: string, owner: Owner): Promise<void> {
  const closed = await closedFolder(path, owner);
  if (closed === undefined) return;
  throw new Failure(
    `${closed} cannot be entered by the database's user (uid ${owner.uid})`,
    `Name a data folder elsewhere with --dir, or run: chmod o+x ${closed}`,
  );
}

async function closedFolder(path: string, { uid, gid }: Owner): Promise<string | undefined> {
  for (let at = path; at !== "/"; at = dirname(at)) {
    const found = await stat(at);
    const bit = found.uid === uid ? 0o100 : found.gid === gid ? 0o010 : 0o001;
    if ((found.mode & bit) === 0) return at;
  }
  return undefined;
}

/**
 * Programs that can run: those found, or a copy of them.
 * npm packages carry no links, and the loader looks for libraries under names that are links; a folder under a home
 * may be closed to the database's user. In both cases a whole copy stands in the data folder, made once per version.
 */
async function runtime(source: string, { home, owner }: Place): Promise<string> {
  const links = await missingLinks(source);
  const closed = owner && (await closedFolder(join(source, "bin"), owner));
  if (links.length === 0 && !closed) return source;
  const { size, mtimeMs } = await stat(join(source, "bin/postgres"));
  const target = join(home, `runtime-${createHash("sha256").update(`${size} ${mtimeMs}`).digest("hex").slice(0, 12)}`);
  if (await isThere(target)) return target;
  const partial = `${target}.${process.pid}.part`;
  await cp(source, partial, { recursive: true, dereference: true, filter: (path) => !notNeeded.test(path) });
  for (const { name, to } of links) await symlink(to, join(partial, "lib", name)).catch(() => {});
  await rename(partial, target);
  return target;
}

type Link = { name: string; to: string };

/** Links the package lists in `pg-symlinks.json` and npm did not make. */
async function missingLinks(source: string): Promise<Link[]> {
  const text = await readFile(join(source, "pg-symlinks.json"), "utf8").catch(() => "[]");
  const listed = JSON.parse(text) as { source: string; target: string }[];
  const links = listed.map((one) => ({ name: basename(one.target), to: basename(one.source) }));
  const there = await Promise.all(links.map(({ name }) => readlink(join(source, "lib", name)).catch(() => undefined)));
  return links.filter((_, at) => there[at] === undefined);
}

const environment = (programs: string): Record<string, string> => ({
  LD_LIBRARY_PATH: join(programs, "lib"),
  LC_ALL: "C",
});

function asOwner(command: string[], owner: Owner | undefined): string[] {
  if (!owner) return command;
  const as = ["--reuid", `${owner.uid}`, "--regid", `${owner.gid}`, "--clear-groups", "--no-new-privs"];
  if (command[0] === "setpriv") return ["setpriv", ...as, ...command.slice(1)];
  throw new Failure(
    "setpriv is missing, and PostgreSQL does not run as root",
    "Install util-linux, or run `wrenn up` as an ordinary user.",
  );
}

/** A server that outlived its `wrenn up`, or whose backends did, holds the data: it is ended first. */
async function endLeftovers({ data }: Place): Promise<void> {
  const leftovers = processesIn(data);
  await Promise.all(leftovers.map((one) => stop(one, "SIGINT", 15_000)));
  // The pid in it may belong to an unrelated process by now, for which PostgreSQL would refuse to start.
  await rm(join(data, "postmaster.pid"), { force: true });
}

async function initialise(programs: string, { home, data, owner }: Place): Promise<void> {
  const major = await readFile(join(data, "PG_VERSION"), "utf8").catch(() => undefined);
  if (major !== undefined) return checkMajor(programs, data, major.trim());
  const fresh = join(home, "data.new"); // a start that was killed in between leaves no half cluster under the real name
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { mode: 0o700 });
  if (owner) await chown(fresh, owner.uid, owner.gid);
  const flags = ["--username=wrenn", "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"];
  const command = asOwner(tied([join(programs, "bin/initdb"), "-D", fresh, ...flags], "TERM"), owner);
  const child = Bun.spawn(command, {
    cwd: "/",
    env: { ...process.env, ...environment(programs) },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0)
    throw new Failure(`initdb failed: ${said.trim()}`, "Free disk space, or name another folder with --dir.");
  await rename(fresh, data);
}

async function checkMajor(programs: string, data: string, major: string): Promise<void> {
  const shown = Bun.spawnSync([join(programs, "bin/postgres"), "--version"], { env: environment(programs) });
  const installed = /(\d+)/.exec(shown.stdout.toString())?.[1];
  if (installed === major) return;
  throw new Failure(
    `the database in ${data} is of PostgreSQL ${major}, the programs are of ${installed ?? "an unknown version"}`,
    `Point WRENN_POSTGRES_DIR at PostgreSQL ${major}, or name another folder with --dir.`,
  );
}

/** PostgreSQL writes its state to the eighth line of `postmaster.pid` (pg_ctl of the same sources waits for it too). */
async function ready({ pid, running }: Starting, data: string): Promise<string> {
  while (running()) {
    const lines = (await readFile(join(data, "postmaster.pid"), "utf8").catch(() => "")).split("\n");
    if (Number(lines[0]) === pid && lines[7]?.trim() === "ready") return "ready";
    await Bun.sleep(5);
  }
  return new Promise<never>(() => {}); // the end of the process is reported by its exit
}
