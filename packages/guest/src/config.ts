import { agentPort } from "@wrenn/contract/core";

/** What a person writes. */
export type AgentOptions = {
  /** TCP port; 0 picks one. */
  port?: number | undefined;
  host?: string | undefined;
  /** A shell command started with the agent, under the tag `init-cmd`. */
  cmd?: string | undefined;
  /** True outside a virtual machine: nothing of the machine itself (clock, host name, entropy) is touched. */
  isNotVm?: boolean | undefined;
};

/** What the code reads. */
export type AgentConfig = {
  readonly port: number;
  readonly host: string;
  readonly cmd: string | undefined;
  readonly ownsMachine: boolean;
};

/** The one door between the two. */
export function compile(options: AgentOptions): AgentConfig {
  return Object.freeze({
    port: options.port ?? agentPort,
    host: options.host ?? "0.0.0.0",
    cmd: options.cmd || undefined,
    ownsMachine: !options.isNotVm && process.getuid?.() === 0,
  });
}
