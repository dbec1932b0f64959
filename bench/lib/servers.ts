import { existsSync } from "node:fs";
import { root } from "../world.ts";
import { Connection, request } from "./http.ts";
import { end, freePort, until } from "./processes.ts";

/** Who commands on this machine run as: asked of the system, for the environment may not say it. */
export const me = Bun.spawnSync(["id", "-un"]).stdout.toString().trim();

/** A server of this machine that is measured. */
export class Server implements AsyncDisposable {
  private constructor(
    readonly port: number,
    readonly child: Bun.Subprocess,
    /** Milliseconds from its start to its first answer. */
    readonly startMs: number,
  ) {}

  /** The guest agent, as a program of this machine. */
  static guestAgent(): Promise<Server> {
    const path = `${root}builds/envd`;
    if (!existsSync(path)) throw new Error(`${path} is missing: run \`make build\``);
    return Server.#start((port) => [path, "--isnotfc", "--host", "127.0.0.1", "--port", `${port}`]);
  }

  /** The bare server; serves `file`. */
  static bare(file = ""): Promise<Server> {
    return Server.#start((port) => [process.execPath, `${root}bench/raw/server.ts`, `${port}`, file]);
  }

  static async #start(command: (port: number) => string[]): Promise<Server> {
    const port = await freePort();
    const started = performance.now();
    const child = Bun.spawn(command(port), { stdio: ["ignore", "ignore", "inherit"] });
    try {
      await until(`an answer of port ${port}`, () => answers(port));
      return new Server(port, child, performance.now() - started);
    } catch (thrown) {
      await end(child);
      throw thrown;
    }
  }

  /** A kept-alive connection to it. */
  connect(): Promise<Connection> {
    return Connection.open(this.port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.child);
  }
}

async function answers(port: number): Promise<true | undefined> {
  try {
    using connection = await Connection.open(port);
    await connection.send(request("GET /health"));
    return true;
  } catch {
    return undefined; // it does not listen yet
  }
}
