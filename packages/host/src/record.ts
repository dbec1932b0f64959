import type { SandboxId, State } from "@wrenn/contract";
import type { VmHandle } from "./drivers/ports.ts";

/** What happens when a sandbox's time is up. */
export type TimeoutAction = "pause" | "kill";

/** What a sandbox was asked to be. */
export type SandboxSpec = {
  readonly template: string;
  /** Id of the snapshot to start from; `undefined` starts from the template. */
  readonly snapshot?: string | undefined;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  /** What its disk has beyond its template's; the file system is grown when it starts. */
  readonly extraDiskMib?: number | undefined;
  readonly timeoutSec: number;
  readonly timeoutAction: TimeoutAction;
  readonly envs: Readonly<Record<string, string>>;
  readonly teamId: string;
  /** What commands get that say nothing themselves; `undefined` leaves it to the image. */
  readonly defaults?: Defaults | undefined;
  /** It may open no connections to the outside, whatever the host allows others. */
  readonly isolated?: boolean | undefined;
  /** What it may reach; `undefined`: whatever the host allows. */
  readonly network?: NetworkSpec | undefined;
  /** Volumes of this host that its guest sees, by path. */
  readonly mounts?: readonly VolumeMount[] | undefined;
};

/** A volume, by its id, and where in the guest it is. */
export type VolumeMount = { readonly volume: string; readonly path: string };

/** A policy as the journal keeps it. */
export type NetworkSpec = {
  readonly internet: boolean;
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  /** The headers that requests get, by host; sealed, as they may hold secrets. */
  readonly rewrites?: string;
};

/** User, folder and environment of commands that name none. */
export type Defaults = {
  readonly user: string;
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
};

/** A machine that a sandbox has: its folder's name, and what finds it again after a restart of the agent. */
export type MachineRecord = { readonly home: string; readonly handle: VmHandle };

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
  /** The certificate authority that its guest trusts for what is rewritten, sealed. */
  authority?: string | undefined;
  state: State;
  reason: string;
  /** Rises with every change. */
  version: number;
  createdAtMs: number;
  startedAtMs: number;
  lastActiveAtMs: number;
  versions: Record<string, string>;
  /** Its disk layer: what it writes to, or wrote to when it was paused. */
  layer: string | undefined;
  /** The layer that a step under way is about to write to; a failed step leaves `layer` as it was. */
  nextLayer: string | undefined;
  /** From the moment it exists until it is known to be gone. */
  machine: MachineRecord | undefined;
  /** The snapshot that a paused sandbox resumes from. */
  snapshot: string | undefined;
  /** Whether a paused sandbox has kept its disk alone. */
  isDiskOnly?: boolean | undefined; // absent in rows of an earlier agent
  /** The checkpoint that its memory and disk come from: its place in the tree; `undefined` for the template. */
  origin: string | undefined;
  /** What its disk layers occupied when that was last looked at. */
  diskUsedBytes?: number; // absent in rows of an earlier agent
};

/** A point in time of a sandbox: memory, devices and disk, or the disk alone. One row of the journal, one folder in `snapshots/`. */
export type SnapshotRecord = {
  readonly id: string;
  /** `pause` belongs to its sandbox and ends with it; a `checkpoint` stays until it is deleted. */
  readonly kind: "pause" | "checkpoint";
  readonly sandbox: SandboxId;
  /** Incarnation of the sandbox when it was taken. */
  readonly run: number;
  /** The checkpoint before it in its line. */
  readonly parent: string | undefined;
  readonly spec: SandboxSpec;
  readonly templateKey: string;
  readonly layer: string;
  /** The token in that memory, needed to give the guest another; a guest that boots has none. */
  readonly token: string;
  readonly defaultUser: string;
  readonly createdAtMs: number;
  /** Bytes of memory it holds beyond its template. */
  readonly memoryBytes: number;
  /** Only the disk was kept: whatever is started from it boots. */
  readonly isDiskOnly?: boolean | undefined; // absent in rows of an earlier agent
};

/** A disk layer and what it lies on: another layer, or the template's disk. */
export type LayerRecord = { readonly id: string; readonly parent: string | undefined; readonly templateKey: string };
