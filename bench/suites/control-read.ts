import { SQL } from "bun";
import { FakeHost } from "../../packages/control/test/support/fake-host.ts";
import { freshDatabase } from "../../packages/control/test/support/postgres.ts";
import type { Context, Suite } from "../context.ts";
import { Connection, request } from "../lib/http.ts";
import { end } from "../lib/processes.ts";
import { readyLine, root } from "../world.ts";

/** The Go original on the same kind of machine, with PostgreSQL: one capsule by API key, 32 connections, quiet. */
const originalPerSec = 2_900;
/** The same with a session token and a list of ten. */
const originalSessionPerSec = 3_503;
const connections = 32;
const secondsEach = 4;
const apiKey = `wrn_${"b".repeat(32)}`;
const email = "bench@example.com";
const password = "a password of the bench";
/** Rows of one team that a list leads through. */
const manyRows = 5_000;

/** How fast the server answers reads: no VM takes part, its host is one in memory that speaks the real protocol. */
export const controlRead: Suite = {
  name: "control-read",
  pledges: [
    {
      ...{ id: "control-get", text: "`GET /v1/capsules/ID` by API key, 32 connections", unit: "1/s", better: "higher" },
      ...{ given: originalPerSec, against: "the Go original on such a machine", target: { times: 1.5 } },
    },
    {
      ...{ id: "control-get-session", text: "the same by session token", unit: "1/s", better: "higher" },
      ...{ given: originalSessionPerSec, against: "the Go original's list of ten by session token" },
    },
    {
      ...{ id: "control-page", text: "one page of 100 out of 5,000 sandboxes, p50", unit: "ms", better: "lower" },
      ...{ against: "a single get, one connection each", target: { times: 2 } },
    },
  ],
  async run(context) {
    await using plane = await Server.start();
    const id = await plane.fill(manyRows);
    const get = request(`GET /v1/capsules/${id}`, { "X-API-Key": apiKey });
    if (context.wants("control-get")) context.keep("control-get", { values: await rates(context, plane.port, get) });
    if (context.wants("control-get-session")) {
      const bearer = { Authorization: `Bearer ${await plane.signIn()}` };
      const values = await rates(context, plane.port, request(`GET /v1/capsules/${id}`, bearer));
      context.keep("control-get-session", { values });
    }
    if (context.wants("control-page")) {
      const page = request("GET /v1/capsules?limit=100", { "X-API-Key": apiKey });
      const [values, baseline] = [await times(context, plane.port, page), await times(context, plane.port, get)];
      context.keep("control-page", { values, baseline });
    }
  },
};

/** Answers a second, each value over some seconds on all connections; the first is not counted. */
async function rates(context: Context, port: number, head: Uint8Array): Promise<number[]> {
  const open = await Promise.all(Array.from({ length: connections }, () => Connection.open(port)));
  const values: number[] = [];
  for (let run = -1; run < context.runs(3); run++) {
    const until = performance.now() + secondsEach * 1_000;
    const counts = await Promise.all(
      open.map(async (connection) => {
        let count = 0;
        for (; performance.now() < until; count++) await connection.send(head);
        return count;
      }),
    );
    if (run >= 0) values.push(counts.reduce((sum, count) => sum + count, 0) / secondsEach);
  }
  for (const connection of open) connection[Symbol.dispose]();
  return values;
}

/** Milliseconds of single requests, one after the other. */
async function times(context: Context, port: number, head: Uint8Array): Promise<number[]> {
  using connection = await Connection.open(port);
  const values: number[] = [];
  for (let run = -50; run < context.runs(300); run++) {
    const started = performance.now();
    await connection.send(head);
    if (run >= 0) values.push(performance.now() - started);
  }
  return values;
}

/** One `wrenn-cp` with its own database, as a process of its own. */
class Server implements AsyncDisposable {
  private constructor(
    readonly address: string,
    readonly child: Bun.Subprocess,
    readonly host: FakeHost,
    readonly databaseUrl: string,
  ) {}

  static async start(): Promise<Server> {
    const databaseUrl = await freshDatabase();
    const host = new FakeHost("http://127.0.0.1:9");
    const child = Bun.spawn([`${root}builds/wrenn-cp`], {
      env: {
        PATH: process.env.PATH ?? "",
        DATABASE_URL: databaseUrl,
        WRENN_CP_LISTEN_ADDR: "127.0.0.1:0",
        CP_HOST_AGENT_ADDR: host.address,
        WRENN_HOST_TOKEN: host.token,
        WRENN_BOOTSTRAP_API_KEY: apiKey,
        WRENN_DIR: `/tmp/wrenn-bench-${process.pid}`,
        LOG_LEVEL: "warn",
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const line = await readyLine(child.stdout);
    if (line === undefined) throw new Error("wrenn-cp ended before it was ready");
    return new Server((JSON.parse(line) as { address: string }).address, child, host, databaseUrl);
  }

  get port(): number {
    return Number(new URL(this.address).port);
  }

  /** Makes one sandbox, and rows of so many more that look like it; gives the public id of the first. */
  async fill(count: number): Promise<string> {
    const answer = await this.#post("/v1/capsules", {}, { "X-API-Key": apiKey });
    const { id } = (await answer.json()) as { id: string };
    await using sql = new SQL(this.databaseUrl, { max: 1 });
    await sql`insert into sandboxes (id, team_id, host_id, template, state, run, vcpus, memory_mib, disk_mib, timeout_sec, timeout_action)
      select lpad(n::text, 25, '0'), team_id, host_id, template, 'paused', 1, 1, 512, 1024, 0, 'pause'
      from sandboxes, generate_series(1, ${count - 1}) n where id = ${id.slice(3)}`;
    await sql`analyze sandboxes`;
    return id;
  }

  /** The session token of the first account, which owns what `fill` made. */
  async signIn(): Promise<string> {
    const made = await this.#post("/v1/auth/signup", { email, name: "Bench", password });
    const { activation_url } = (await made.json()) as { activation_url: string };
    const token = new URL(activation_url).searchParams.get("token");
    return ((await (await this.#post("/v1/auth/activate", { token })).json()) as { token: string }).token;
  }

  async #post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
    const answer = await fetch(this.address + path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.child, 15_000);
    await this.host.down();
  }
}
