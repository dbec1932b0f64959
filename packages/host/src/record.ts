import type { SandboxId, State } from "@wrenn/contract";
import type { VmHandle } from "./drivers/ports.ts";

/** What happens when a sandbox's time is up. */
export type TimeoutAction = "pause" | "kill";

/** What a sandbox was asked to be. */
export type SandboxSpec = {
  readonly template: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly timeoutSec: number;
  readonly timeoutAction: TimeoutAction;
  readonly envs: Readonly<Record<string, string>>;
  readonly teamId: string;
};

/** Everything this host knows of a sandbox and must know again after a crash: one row of the journal. */
export type SandboxRecord = {
  readonly id: SandboxId;
  /** The incarnation, given by the control plane. */
  run: number;
  spec: SandboxSpec;
  /** Key of the frozen template it lies on. */
  templateKey: string;
  /** Access token of its guest agent. */
  token: string;
  defaultUser: string;
  state: State;
  reason: string;
  /** Rises with every change. */
  version: number;
  createdAtMs: number;
  startedAtMs: number;
  lastActiveAtMs: number;
  versions: Record<string, string>;
  /** Number of the top disk layer; a resume adds one, so that a failed resume changes nothing. */
  layer: number;
  /** The VM to adopt, from the moment it exists until it is known to be gone. */
  vm: VmHandle | undefined;
  /** Name of the folder in `snapshots/` that a paused sandbox resumes from. */
  snapshot: string | undefined;
};
