import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { rest } from "@wrenn/contract";

const root = new URL("../..", import.meta.url).pathname;
/** Starting a program from its sources takes a second, and a minute and a half on a machine that does twenty other things. */
const readyMs = 180_000;

/** A program of the fleet, which can be killed and started again at the same address. */
export class Part {
  process: Bun.Subprocess<"ignore", "pipe", "ignore" | "inherit"> | undefined;
  address = "";

  constructor(
    readonly name: string,
    readonly command: readonly string[],
    readonly env: Record<string, string>,
  ) {}

  /** Starts it and resolves when it is ready. `args` are for this start alone. */
  async start(...args: string[]): Promise<void> {
    const child = Bun.spawn([process.execPath, ...this.command, ...args], {
      env: { PATH: process.env.PATH!, ...this.env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: process.env.FLEET_LOG ? "inherit" : "ignore",
    });
    this.process = child;
    const late = setTimeout(() => child.kill("SIGKILL"), readyMs);
    const reader = child.stdout.getReader();
    let text = "";
    while (!text.includes("\n")) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`${this.name} ended before it was ready (exit ${await child.exited})`);
      text += new TextDecoder().decode(value);
    }
    clearTimeout(late);
    this.address = (JSON.parse(text) as { address: string }).address;
  }

  /** Ends it at once, as a power cut would. */
  async kill(): Promise<void> {
    this.process?.kill("SIGKILL");
    await this.process?.exited;
  }

  /** Asks it to end. */
  async stop(): Promise<void> {
    this.process?.kill("SIGTERM");
    await this.process?.exited;
  }
}

/** How a fleet is made up. */
export type FleetPlan = {
  databaseUrl: string;
  planes: number;
  agents: number;
  /** Real machines instead of those that live in the agents' processes: needs kernel and images in each `dirs`. */
  vmDirs?: readonly string[] | undefined;
  env?: Record<string, string>;
};

/** Control planes on one database, and host agents that registered with them, all processes of their own. */
export class TestFleet implements AsyncDisposable {
  readonly key = `wrn_${"f".repeat(32)}`;
  readonly planes: Part[] = [];
  readonly agents: Part[] = [];
  readonly hosts: string[] = [];
  #dir = "";

  static async start(plan: FleetPlan): Promise<TestFleet> {
    const fleet = new TestFleet();
    fleet.#dir = await mkdtemp(join(tmpdir(), "wrenn-fleet-"));
    for (let at = 0; at < plan.planes; at++) await fleet.#addPlane(plan);
    await Promise.all(Array.from({ length: plan.agents }, (_, at) => fleet.#addAgent(plan, at)));
    await fleet.#online(plan.agents);
    return fleet;
  }

  /** A folder that is removed with the fleet. */
  folder = (name: string): string => join(this.#dir, name);

  /** A request to one of the control planes, with the operator's key. */
  fetch(plane: number, method: string, path: string, body?: unknown, more: Record<string, string> = {}) {
    return fetch(this.planes[plane % this.planes.length]!.address + path, {
      method,
      headers: { "x-api-key": this.key, ...(body !== undefined && { "content-type": "application/json" }), ...more },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  }

  /** The JSON of an answer that must not be an error. */
  async json<T>(plane: number, method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.fetch(plane, method, path, body);
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.planes, ...this.agents].map((part) => part.kill()));
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #addPlane({ databaseUrl, env }: FleetPlan): Promise<void> {
    const listen = `127.0.0.1:${await freePort()}`; // the same after a restart
    const plane = new Part(`wrenn-cp ${this.planes.length}`, [join(root, "packages/control/src/main.ts")], {
      DATABASE_URL: databaseUrl,
      WRENN_CP_LISTEN_ADDR: listen,
      WRENN_BOOTSTRAP_API_KEY: this.key,
      LOG_LEVEL: process.env.FLEET_LOG ?? "silent",
      ...env,
    });
    this.planes.push(plane);
    await plane.start();
  }

  async #addAgent({ vmDirs, env }: FleetPlan, at: number): Promise<void> {
    const program = vmDirs ? "packages/host/src/main.ts" : "test/fleet/agent.ts";
    const address = `127.0.0.1:${await freePort()}`;
    const agent = new Part(`wrenn-agent ${at}`, [join(root, program)], {
      WRENN_DIR: vmDirs?.[at] ?? this.folder(`agent-${at}`),
      WRENN_CP_URL: this.planes[at % this.planes.length]!.address,
      LOG_LEVEL: process.env.FLEET_LOG ?? "silent",
      ...env,
    });
    this.agents.push(agent);
    const wanted = { type: "regular", availability_zone: `zone-${at}` };
    const made = await this.json<rest.RegistrableHost>(at, "POST", "/v1/hosts", wanted);
    this.hosts[at] = made.host.id;
    if (at % 2 === 0) return agent.start("--register", made.registration_token, "--address", address);
    // The others by settings, which stay.
    Object.assign(agent.env, { WRENN_REGISTRATION_TOKEN: made.registration_token, WRENN_HOST_ADDRESS: address });
    await agent.start();
  }

  async #online(count: number): Promise<void> {
    for (const plane of this.planes.keys())
      for (;;) {
        const hosts = await this.json<rest.Host[]>(plane, "GET", "/v1/hosts");
        if (hosts.filter(({ status }) => status === "online").length >= count) break;
        await Bun.sleep(100);
      }
  }
}

/** A port that was free just now. */
export async function freePort(): Promise<number> {
  const { port, free } = await heldPort();
  await free();
  return port;
}

/** A port that nobody else gets until it is set free. */
export async function heldPort(): Promise<{ port: number; free(): Promise<void> }> {
  const server = createServer((socket) => socket.destroy()); // `close` waits for whoever came meanwhile
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  return { port, free: () => new Promise((closed) => server.close(() => closed())) };
}
