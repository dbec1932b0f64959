import { type AgentOptions, compile } from "./config.ts";
import { hasIdentity, identityFile, markSandbox, sandboxVariables } from "./identity/environment.ts";
import { Identity } from "./identity/state.ts";
import { prepare } from "./processes/command.ts";
import { openGroups } from "./processes/groups.ts";
import { PipedProcess } from "./processes/process.ts";
import { Registry } from "./processes/registry.ts";
import { protectAgent } from "./processes/spawn.ts";
import type { Rpc } from "./rpc.ts";
import { type Agent, listen } from "./server.ts";

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
  const agent: Agent = { identity, registry, rpc: lazily(registry, identity), ownsMachine: config.ownsMachine };
  if (config.ownsMachine) {
    protectAgent();
    openGroups();
    markSandbox();
    Object.assign(identity.envs, sandboxVariables({}));
    identity.restore(identityFile, hasIdentity());
  }
  if (config.cmd) registry.add(startInitCommand(config.cmd, identity));
  const server = listen(agent, config);
  return {
    address: `http://${config.host}:${server.port}`,
    async stop() {
      registry.killAll();
      await server.stop(true);
    },
  };
}

/** The services, loaded by the first call: reading the descriptions of their messages is half of what a start would take. */
function lazily(registry: Registry, identity: Identity): Agent["rpc"] {
  let loaded: Promise<Rpc> | undefined;
  return async (path, request) => {
    loaded ??= import("./rpc.ts").then(({ services }) => services(registry, identity));
    return (await loaded)(path, request);
  };
}

/** The command of `--cmd`, as the default user and through a shell, under the tag that clients of the Wrenn agent know. */
function startInitCommand(cmd: string, identity: Identity): PipedProcess {
  const request = { cmd: "/bin/sh", args: ["-c", cmd], envs: {}, cwd: "" };
  const command = prepare(request, { user: identity.user(""), envs: identity.envs, defaultWorkdir: "" });
  return new PipedProcess(command, { request, tag: "init-cmd", stdin: false });
}
