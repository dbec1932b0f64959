import { type AgentOptions, compile } from "./config.ts";
import type { Method } from "./connect/method.ts";
import { Identity } from "./identity/state.ts";
import { Registry } from "./processes/registry.ts";
import { processMethods } from "./processes/service.ts";
import { protectAgent } from "./processes/spawn.ts";
import { type Agent, respond } from "./server.ts";

export type { AgentOptions } from "./config.ts";

/** A running agent. */
export type RunningAgent = {
  /** `http://HOST:PORT`. */
  readonly address: string;
  /** Ends every process and connection. */
  stop(): Promise<void>;
};

/** Starts the guest agent in this process. */
export function start(options: AgentOptions = {}): RunningAgent {
  const config = compile(options);
  const identity = new Identity();
  const registry = new Registry();
  const methods = new Map<string, Method>();
  for (const [name, method] of Object.entries(processMethods(registry, identity)))
    methods.set(`/process.Process/${name}`, method);
  const agent: Agent = { identity, methods, ownsMachine: config.ownsMachine };
  if (config.ownsMachine) protectAgent();
  const server = Bun.serve({
    port: config.port,
    hostname: config.host,
    // streams of commands and terminals may be silent for hours
    idleTimeout: 0,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    development: false,
    fetch: (request) => respond(request, agent),
  });
  return {
    address: `http://${config.host}:${server.port}`,
    async stop() {
      registry.killAll();
      await server.stop(true);
    },
  };
}
