import { type AgentOptions, compile } from "./config.ts";
import type { Method } from "./connect/method.ts";
import { filesystemMethods } from "./filesystem/service.ts";
import { hasIdentity, identityFile, markSandbox, sandboxVariables } from "./identity/environment.ts";
import { Identity } from "./identity/state.ts";
import { prepare } from "./processes/command.ts";
import { openGroups } from "./processes/groups.ts";
import { PipedProcess } from "./processes/process.ts";
import { Registry } from "./processes/registry.ts";
import { processMethods } from "./processes/service.ts";
import { protectAgent } from "./processes/spawn.ts";
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
  const methods = new Map<string, Method>();
  const processService = processMethods(registry, identity);
  for (const [name, method] of Object.entries(processService)) methods.set(`/process.Process/${name}`, method);
  for (const [name, method] of Object.entries(filesystemMethods(identity)))
    methods.set(`/filesystem.Filesystem/${name}`, method);
  const agent: Agent = { identity, registry, methods, ownsMachine: config.ownsMachine };
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

/** The command of `--cmd`, as the default user and through a shell, under the tag that clients of the Wrenn agent know. */
function startInitCommand(cmd: string, identity: Identity): PipedProcess {
  const request = { cmd: "/bin/sh", args: ["-c", cmd], envs: {}, cwd: "" };
  const command = prepare(request, { user: identity.user(""), envs: identity.envs, defaultWorkdir: "" });
  return new PipedProcess(command, { request, tag: "init-cmd", stdin: false });
}
