import { readFileSync } from "node:fs";
import type { rest } from "@wrenn/contract";
import { SQL } from "bun";
import { FakeHost } from "../../packages/control/test/support/fake-host.ts";
import { Cluster } from "../../test/fleet/cluster.ts";
import { heldPort } from "../../test/fleet/fleet.ts";
import type { Context, Suite } from "../context.ts";
import { end } from "../lib/processes.ts";
import { summary } from "../measure.ts";
import { readyLine, root } from "../world.ts";

const hostCount = 1_000;
const sandboxesEach = 100;
/** Hosts that register at once. */
const joining = 16;
const inFlight = 64;
const created = 1_500;
/** Clock ticks of a second in `/proc/PID/stat` (getconf CLK_TCK). */
const ticksPerSecond = 100;
const quietSeconds = 10;
const apiKey = `wrn_${"c".repeat(32)}`;

/**
 * A simulated fleet: one `wrenn-cp`, PostgreSQL that waits for its disk, and hosts in memory that registered and speak
 * the real protocol over mutual TLS.
 */
export const fleet: Suite = {
  name: "fleet",
  pledges: [
    {
      ...{ id: "fleet-create", text: `creates on ${hostCount} simulated hosts, ${inFlight} in flight`, unit: "1/s" },
      ...{ better: "higher", target: { absolute: 500 } },
    },
    {
      ...{ id: "fleet-place", text: "from a create's request to its host's call, one at a time, p99", unit: "ms" },
      ...{ better: "lower", target: { absolute: 10 } },
    },
    {
      ...{
        id: "fleet-cpu",
        text: `the server with ${hostCount} hosts, ${hostCount * sandboxesEach} sandboxes and nothing to do, share of a core`,
        unit: "%",
      },
      ...{ better: "lower", target: { absolute: 50 } },
    },
    {
      ...{ id: "fleet-memory", text: "the server's memory after that", unit: "MiB", better: "lower" },
      target: { absolute: 600 },
    },
  ],
  async run(context) {
    await using world = await SimulatedFleet.start(context);
    if (context.wants("fleet-cpu")) context.keep("fleet-cpu", { values: [await world.quietShare()] });
    if (context.wants("fleet-create")) context.keep("fleet-create", { values: [await world.rate()] });
    if (context.wants("fleet-place")) {
      const values = await world.placements(context.runs(300));
      const sorted = values.toSorted((a, b) => a - b);
      const p99 = sorted[Math.floor(sorted.length * 0.99)]!;
      context.keep("fleet-place", { values: [p99], note: `Median ${summary(values).median.toFixed(1)} ms.` });
    }
    if (context.wants("fleet-memory")) context.keep("fleet-memory", { values: [world.residentMiB()] });
  },
};

/** A `wrenn-cp` of its own on the database, and its address. */
async function serve(cluster: Cluster): Promise<[Bun.Subprocess, string]> {
  const child = Bun.spawn([`${root}builds/wrenn-cp`], {
    env: {
      PATH: process.env.PATH ?? "",
      DATABASE_URL: cluster.url,
      WRENN_CP_LISTEN_ADDR: "127.0.0.1:0",
      WRENN_BOOTSTRAP_API_KEY: apiKey,
      WRENN_DIR: `/tmp/wrenn-bench-${process.pid}`,
      LOG_LEVEL: process.env.BENCH_LOG ?? "error",
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await readyLine(child.stdout);
  if (line === undefined) throw new Error("wrenn-cp ended before it was ready");
  return [child, (JSON.parse(line) as { address: string }).address];
}

class SimulatedFleet implements AsyncDisposable {
  readonly hosts: FakeHost[] = [];
  /** The id of each, in the same order. */
  readonly ids: string[] = [];

  private constructor(
    readonly cluster: Cluster,
    public child: Bun.Subprocess,
    public address: string,
  ) {}

  static async start(context: Context): Promise<SimulatedFleet> {
    const cluster = await Cluster.start();
    await using undo = new AsyncDisposableStack();
    const world = undo.use(new SimulatedFleet(cluster, ...(await serve(cluster))));
    let begun = performance.now();
    const told = (what: string) => {
      context.say(`${what} after ${((performance.now() - begun) / 1_000).toFixed(1)} s`);
      begun = performance.now();
    };
    let left = hostCount;
    const joins = async () => {
      while (left-- > 0) await world.#join();
    };
    await Promise.all(Array.from({ length: joining }, joins));
    told(`${hostCount} hosts have joined`);
    await world.#fill();
    told(`${hostCount * sandboxesEach} sandboxes are there`);
    await world.#restart();
    await world.#online();
    told("a server that was started anew is met by every host");
    undo.move();
    return world;
  }

  /** Creates a second. */
  async rate(): Promise<number> {
    await Promise.all(Array.from({ length: inFlight }, () => this.#create())); // connections
    let left = created;
    const started = performance.now();
    const client = async () => {
      while (left-- > 0) await this.#create();
    };
    await Promise.all(Array.from({ length: inFlight }, client));
    return created / ((performance.now() - started) / 1_000);
  }

  /** Milliseconds from sending a create to its arrival at the host that was chosen. */
  async placements(count: number): Promise<number[]> {
    let arrived = 0;
    for (const host of this.hosts)
      host.heard = (step) => {
        if (step === "create") arrived = performance.now();
      };
    const values: number[] = [];
    for (let run = -50; run < count; run++) {
      const started = performance.now();
      await this.#create();
      if (run >= 0) values.push(arrived - started);
    }
    return values;
  }

  /** Percent of a core that the server takes while nobody asks for anything. */
  async quietShare(): Promise<number> {
    const ticks = () => {
      const fields = readFileSync(`/proc/${this.child.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
      return Number(fields[11]) + Number(fields[12]); // utime, stime (proc_pid_stat(5), fields 14 and 15)
    };
    const before = ticks();
    await Bun.sleep(quietSeconds * 1_000);
    return ((ticks() - before) / ticksPerSecond / quietSeconds) * 100;
  }

  /** What the server holds. */
  residentMiB(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.child, 15_000);
    for (const host of this.hosts) await host.down();
    await this.cluster[Symbol.asyncDispose]();
  }

  /** Sandboxes that run, in the rows and on the hosts; made one by one they would take minutes. */
  async #fill(): Promise<void> {
    await using sql = new SQL(this.cluster.url, { max: 1 });
    await sql`set session_replication_role = replica`;
    await sql`insert into sandboxes (id, team_id, host_id, template, state, run, version, vcpus, memory_mib, disk_mib,
        timeout_sec, timeout_action, started_at)
      select lpad(((host.at - 1) * ${sandboxesEach} + n)::text, 25, '0'), (select id from teams order by created_at limit 1),
        host.id, 'minimal', 'running', 1, 1, 1, 512, 1024, 0, 'pause', now()
      from jsonb_array_elements_text(${JSON.stringify(this.ids)}::text::jsonb) with ordinality as host (id, at),
        generate_series(1, ${sandboxesEach}) n`;
    await sql`update host_loads set sandboxes = ${sandboxesEach}, vcpus = ${sandboxesEach}, memory_mib = ${sandboxesEach * 512}`;
    await sql.unsafe("analyze sandboxes; analyze hosts; analyze host_loads").simple();
    const sizes = { vcpus: 1, memoryMib: 512, diskMib: 1_024, timeoutSec: 0 };
    for (const [at, host] of this.hosts.entries())
      for (let n = 1; n <= sandboxesEach; n++) host.plant(String(at * sandboxesEach + n).padStart(25, "0"), sizes);
  }

  async #restart(): Promise<void> {
    await end(this.child, 15_000);
    [this.child, this.address] = await serve(this.cluster);
  }

  async #join(): Promise<void> {
    const { port, free } = await heldPort();
    const made = await this.#post<rest.RegistrableHost>("/v1/hosts", {});
    const identity = await this.#post<rest.HostIdentity>("/v1/hosts/register", {
      ...{ token: made.registration_token, address: `127.0.0.1:${port}` },
      ...{ arch: "x64", cpu_cores: 64, memory_mb: 262_144, disk_gb: 1_000 },
    });
    const { cert_pem: cert, key_pem: key, ca_cert_pem: ca, agent_token } = identity;
    const tls = { cert, key, ca, requestCert: true, rejectUnauthorized: true };
    await free();
    const host = new FakeHost("http://127.0.0.1:9", tls, port);
    host.token = agent_token;
    this.hosts.push(host);
    this.ids.push(made.host.id);
  }

  async #online(): Promise<void> {
    for (;;) {
      const answer = await fetch(`${this.address}/v1/hosts`, { headers: { "x-api-key": apiKey } });
      const hosts = (await answer.json()) as rest.Host[];
      if (hosts.filter(({ status }) => status === "online").length === hostCount) return;
      await Bun.sleep(200);
    }
  }

  #create = (): Promise<unknown> => this.#post("/v1/capsules", {});

  async #post<T>(path: string, body: object): Promise<T> {
    const answer = await fetch(this.address + path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": apiKey },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }
}
