import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { type CreateOptions, Sandbox, Wrenn } from "wrenn";
import type { SandboxRecord } from "../../packages/host/src/record.ts";
import { dataFolder, keepTemplates } from "./data-folder.ts";
import { processesOf, until } from "./processes.ts";

/** Root of the repository. */
export const repository = new URL("../..", import.meta.url).pathname;

/** The compiled command line, as users start it. */
export const wrennProgram = `${repository}builds/wrenn`;

/** Port of the guest agent inside every sandbox. */
const agentPort = 49983;

type Ready = { url: string; apiKey: string; dashboard: string; pid: number };
type ChildName = "wrenn-cp" | "wrenn-agent" | "PostgreSQL";

/** The whole system in a data folder of its own: `wrenn up` and what it starts. */
export class System implements AsyncDisposable {
  client!: Wrenn;
  ready!: Ready;
  #up: Bun.Subprocess<"ignore", "pipe", "pipe"> | undefined;
  #said: Promise<string> = Promise.resolve("");

  private constructor(
    readonly dir: string,
    readonly env: Record<string, string>,
  ) {}

  /** Makes the folder and starts everything. `env` is added to the programs' environment; `images` are those the host has. */
  static async start(name: string, env: Record<string, string> = {}, images?: readonly string[]): Promise<System> {
    if (!existsSync(wrennProgram)) throw new Error(`${wrennProgram} is missing: run \`make build\``);
    const dir = await dataFolder(name, images);
    // No profile, address or key of whoever runs the tests; an address and a pool would make results depend on them.
    const { PATH = "", LANG = "C.UTF-8" } = process.env;
    const system = new System(dir, {
      PATH,
      LANG,
      HOME: dir,
      WRENN_DIR: dir,
      LOG_LEVEL: "info",
      WRENN_POOL: "0",
      ...env,
    });
    await system.up();
    return system;
  }

  /** Starts `wrenn up`, for the first time or after {@link stop}. */
  async up(): Promise<void> {
    const args = ["up", "--json", "--dir", this.dir, "--listen", "127.0.0.1:0"];
    const child = Bun.spawn([wrennProgram, ...args], {
      env: this.env,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.#up = child;
    this.#said = new Response(child.stderr).text();
    const line = await firstLine(child.stdout);
    if (line === undefined) throw new Error(`wrenn up ended before it was ready: ${await this.#said}`);
    this.ready = JSON.parse(line) as Ready;
    this.client = new Wrenn({ baseUrl: this.ready.url, apiKey: this.ready.apiKey });
  }

  /** A sandbox of `base`, or as the options say. */
  create(options: CreateOptions = {}): Promise<Sandbox> {
    return Sandbox.create({ client: this.client, ...options });
  }

  /** A REST request with the key of the local team. */
  rest(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<Response> {
    const headers = { "x-api-key": this.ready.apiKey, "content-type": "application/json" };
    return fetch(this.ready.url + path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...init,
    });
  }

  /** Process id of a program that `wrenn up` keeps running. */
  async pidOf(name: ChildName): Promise<number> {
    const lock = JSON.parse(await readFile(`${this.dir}/up.lock`, "utf8")) as {
      children: { name: string; pid: number }[];
    };
    const child = lock.children.find((one) => one.name === name);
    if (!child) throw new Error(`wrenn up keeps no ${name}`);
    return child.pid;
  }

  /** Process id of `wrenn up` itself. */
  get upPid(): number {
    return this.#up!.pid;
  }

  /** What the host's journal holds of a sandbox; `undefined` when it knows none. */
  record(id: string): SandboxRecord | undefined {
    using journal = new Database(`${this.dir}/agent.db`, { readonly: true });
    const found = journal
      .query<{ row: string }, [string]>("select row from sandboxes where id = ?")
      .get(id.replace(/^cl-/, ""));
    return found ? (JSON.parse(found.row) as SandboxRecord) : undefined;
  }

  /** Process id of a running sandbox's VMM. */
  vmPid(id: string): number {
    const pid = this.record(id)?.machine?.handle.pid;
    if (pid === undefined) throw new Error(`${id} has no VM`);
    return pid;
  }

  /** Where this machine reaches the guest agent of a running sandbox, with nothing between. */
  agentAddress(id: string): string {
    const port = new Map(this.record(id)?.machine?.handle.ports).get(agentPort);
    if (port === undefined) throw new Error(`${id} has no forwarded port`);
    return `http://127.0.0.1:${port}`;
  }

  /** The end of a program's log, for the message of a test that failed. */
  async log(name: "wrenn-cp" | "wrenn-agent"): Promise<string> {
    return readFile(`${this.dir}/logs/${name}.log`, "utf8");
  }

  /** Ends `wrenn up` and waits for that; gives its exit code. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    const child = this.#up;
    if (!child) return 0;
    child.kill(signal);
    this.#up = undefined;
    const code = await child.exited;
    if (signal === "SIGTERM" && code !== 0) throw new Error(`wrenn up ended with ${code}: ${await this.#said}`);
    return code;
  }

  /** Ends everything and gives what is left of it; the folder goes away. */
  async end(): Promise<{ processes: string[]; folderExists: boolean }> {
    await this.stop();
    await keepTemplates(this.dir);
    const left = processesOf(this.dir);
    for (const { pid } of left) process.kill(pid, "SIGKILL");
    await until("the end of what was left", () => processesOf(this.dir).length === 0);
    await rm(this.dir, { recursive: true });
    return { processes: left.map(({ command }) => command), folderExists: existsSync(this.dir) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

/** What {@link System.end} gives when nothing is left. */
export const nothingLeft = { processes: [], folderExists: false };

async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string | undefined> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) return undefined;
    text += decoder.decode(value, { stream: true });
  }
  void (async () => {
    while (!(await reader.read()).done); // a full pipe would stop the program
  })();
  return text.split("\n")[0];
}
