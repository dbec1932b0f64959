import { Database } from "bun:sqlite";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { Sandbox, Wrenn } from "wrenn";
import { qemusBelow } from "../packages/host/src/drivers/qemu/sweep.ts";
import type { SandboxRecord, SnapshotRecord } from "../packages/host/src/record.ts";
import { end, processorMs, until } from "./lib/processes.ts";

/** Root of the repository. */
export const root = new URL("..", import.meta.url).pathname;

/** Template that everything is measured on: the smallest. */
export const template = "minimal";

/** Images that an installation gets unless a suite says otherwise: freezing others ahead of time would disturb it. */
const usualImages = ["minimal", "base"];

/** Where `make images` puts kernels and images. */
export const installed =
  process.env.WRENN_DIR ||
  (process.getuid?.() === 0 ? "/var/lib/wrenn" : `${process.env.XDG_DATA_HOME || `${homedir()}/.local/share`}/wrenn`);

/** The guest agent's port inside every sandbox. */
const agentPort = 49983;

/** A sandbox as its host sees it: how to reach its guest agent without anything between, and its VMM's process. */
export type Inside = { port: number; token: string; pid: number; argv: string[]; memory: string };

/** What `wrenn up --json` prints when it is ready. */
type Ready = { url: string; apiKey: string; pid: number };

/** A VM that uses less than this share of a processor for this long is stopped; one that boots or warms up uses all of one. */
const restShare = 0.02;
const restMs = 400;

/** A machine of the pool is restored and warmed up within seconds; a busy computer takes many times that. */
const poolTimeoutMs = 120_000;

/** Makes what follows end with this process, where the system can: a bench that is killed leaves nothing running. */
const tie = Bun.which("setpriv") ? ["setpriv", "--pdeathsig=TERM", "--"] : [];

/** How long stopping may take: it writes the memory of every running sandbox to disk. */
const stopPatienceMs = 60_000;

/** An installation of its own beside the real one, with the real one's kernels, images and templates. */
export class World implements AsyncDisposable {
  readonly dir: string;
  client!: Wrenn;
  #up: Bun.Subprocess | undefined;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** Makes the folder and starts `wrenn up` there. */
  static async start(images: readonly string[] = usualImages): Promise<World> {
    const world = new World(await folder(images));
    try {
      await world.up();
      return world;
    } catch (thrown) {
      await world[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  /** Starts `wrenn up`, with so many machines kept ready; gives the milliseconds until it said that it is ready. */
  async up(pool = 0): Promise<number> {
    const started = performance.now();
    const command = [`${root}builds/wrenn`, "up", "--json", "--dir", this.dir, "--listen", "127.0.0.1:0"];
    const child = Bun.spawn([...tie, ...command], {
      // Its profile must not replace the user's.
      env: { ...process.env, XDG_CONFIG_HOME: `${this.dir}/config`, WRENN_DIR: this.dir, WRENN_POOL: `${pool}` },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#up = child;
    const said = new Response(child.stderr).text();
    const line = await readyLine(child.stdout);
    if (line === undefined) throw new Error(`wrenn up ended before it was ready: ${(await said).trim()}`);
    const tookMs = performance.now() - started;
    const { url, apiKey } = JSON.parse(line) as Ready;
    this.client = new Wrenn({ baseUrl: url, apiKey });
    return tookMs;
  }

  /** Ends `wrenn up`, which pauses what still runs. */
  async down(): Promise<void> {
    if (this.#up) await end(this.#up, stopPatienceMs);
    this.#up = undefined;
  }

  /** A new sandbox of the measured template. */
  create(options: { memoryMiB?: number } = {}): Promise<Sandbox> {
    return Sandbox.create({ client: this.client, template, ...options });
  }

  /** What the host's journal says of a running sandbox. */
  async inside(sandbox: Sandbox): Promise<Inside> {
    const id = sandbox.id.replace(/^cl-/, "");
    using journal = new Database(`${this.dir}/agent.db`, { readonly: true });
    const found = journal.query<{ row: string }, [string]>("select row from sandboxes where id = ?").get(id);
    const record = found && (JSON.parse(found.row) as SandboxRecord);
    const handle = record?.machine?.handle;
    const port = new Map(handle?.ports).get(agentPort);
    if (!record || !handle || port === undefined) throw new Error(`the journal has no running VM of ${sandbox.id}`);
    const argv = readFileSync(`/proc/${handle.pid}/cmdline`, "utf8").split("\0").slice(0, -1);
    const memory = /mem-path=([^,]+)/.exec(argv.join(" "))?.[1];
    if (!memory) throw new Error(`the VMM of ${sandbox.id} maps no template's memory`);
    return { port, token: record.token, pid: handle.pid, argv, memory };
  }

  /** What the host wrote down of a paused sandbox's snapshot: bytes of memory. */
  writtenBytes(sandbox: Sandbox): number {
    using journal = new Database(`${this.dir}/agent.db`, { readonly: true });
    const rows = journal.query<{ row: string }, []>("select row from snapshots").all();
    const id = sandbox.id.replace(/^cl-/, "");
    const found = rows.map(({ row }) => JSON.parse(row) as SnapshotRecord).find((row) => row.sandbox === id);
    if (!found) throw new Error(`the journal has no snapshot of ${sandbox.id}`);
    return found.memoryBytes;
  }

  /** Process id of one of the programs that `wrenn up` keeps. */
  pidOf(name: "wrenn-cp" | "wrenn-agent"): number {
    const found = this.#children().find((child) => child.name === name);
    if (!found) throw new Error(`wrenn up keeps no ${name}`);
    return found.pid;
  }

  #children(): { name: string; pid: number }[] {
    return (JSON.parse(readFileSync(`${this.dir}/up.lock`, "utf8")) as { children: { name: string; pid: number }[] })
      .children;
  }

  /** Waits until one VM is there and rests: a machine of the pool that was warmed up and stopped. */
  async pooled(): Promise<void> {
    const look = async () => {
      const [pid, ...more] = qemusBelow(`${this.dir}/sandboxes`);
      if (pid === undefined || more.length > 0) return undefined;
      const before = processorMs(pid);
      await Bun.sleep(restMs);
      return processorMs(pid) - before < restMs * restShare ? true : undefined;
    };
    await until("a machine of the pool", look, poolTimeoutMs);
  }

  /** Address and secret of the host agent, as the server was told them. */
  host(): { address: string; token: string } {
    const pid = this.pidOf("wrenn-cp");
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    const of = (name: string) => environment.find((line) => line.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
    return { address: of("CP_HOST_AGENT_ADDR"), token: of("WRENN_HOST_TOKEN") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#up && this.client)
      for (const { id } of await Sandbox.list({ client: this.client }).catch(() => []))
        await Sandbox.kill(id, { client: this.client }).catch(() => {});
    await this.down();
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** The first line that a starting program prints; `undefined` when it ends before. The rest is let pass. */
export async function readyLine(stream: ReadableStream<Uint8Array>): Promise<string | undefined> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return undefined;
    text += decoder.decode(value, { stream: true });
    const end_ = text.indexOf("\n");
    if (end_ < 0) continue;
    void (async () => {
      while (!(await reader.read()).done);
    })();
    return text.slice(0, end_);
  }
}

/**
 * A data folder beside the installed one. Templates are hard links, not a link to the folder: what is frozen here goes
 * with it, and no disk layer over this path is left in the installed templates.
 */
async function folder(images: readonly string[]): Promise<string> {
  await mkdir(`${installed}/tests`, { recursive: true, mode: 0o755 });
  await removeLeftovers();
  const dir = await mkdtemp(`${installed}/tests/bench-${process.pid}-`);
  await Bun.$`chmod 755 ${dir}`.quiet();
  await symlink(`${installed}/kernels`, `${dir}/kernels`);
  await mkdir(`${dir}/images`, { mode: 0o755 });
  for (const image of images) await symlink(`${installed}/images/${image}`, `${dir}/images/${image}`);
  await mkdir(`${dir}/templates`, { mode: 0o755 });
  for (const key of await readdir(`${installed}/templates`).catch(() => [])) {
    if (key.startsWith(".")) continue;
    await Bun.$`cp -al ${installed}/templates/${key} ${dir}/templates/`.quiet();
  }
  return dir;
}

/** Removes folders of benches that were killed. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(`${installed}/tests`)) {
    const pid = /^bench-(\d+)-/.exec(name)?.[1];
    if (pid && !existsSync(`/proc/${pid}`)) await rm(`${installed}/tests/${name}`, { recursive: true, force: true });
  }
}
