/**
 * Client of Wrenn for Node 20, Bun, Deno and browsers.
 *
 * @example
 * ```ts
 * import { Sandbox } from "wrenn";
 *
 * await using sandbox = await Sandbox.create({ template: "base" });
 * await sandbox.files.write("/tmp/hello.py", "print('hello from', __import__('platform').release())");
 * const { stdout } = await sandbox.commands.run("python3 /tmp/hello.py");
 * ```
 */

export { type Code, codes, type State, states, version, WrennError } from "@wrenn/contract";
export type { CallOptions } from "./api.ts";
export {
  type BuildInfo,
  type BuildLogLine,
  type BuildOptions,
  type Builds,
  type BuiltTemplateInfo,
  succeeded,
} from "./builds.ts";
export { type TemplateInfo, Wrenn } from "./client.ts";
export * from "./commands.ts";
export { type Comparison, compare, type Difference, lookLabel, type Moment, type PathKind } from "./compare.ts";
export { defaultBaseUrl, type Endpoint, type Profile, profilePath, readProfile, type WrennOptions } from "./config.ts";
export { CommandExitError, type CommandResult } from "./errors.ts";
export type { EventOptions, WrennEvent } from "./events.ts";
export {
  type EntryInfo,
  type FileContents,
  type FileOptions,
  Files,
  type ReadFormats,
  type WriteInfo,
} from "./files.ts";
export type { DrainInfo, DrainOptions, HostInfo, Hosts } from "./hosts.ts";
export type { PauseOptions, ResumeOptions, SandboxInfo } from "./lifecycle.ts";
export { type Branch, lineage, lineOf, walk } from "./lineage.ts";
export type { ListOptions, SandboxPage } from "./list.ts";
export type { LogEntry, LogOptions } from "./logs.ts";
export type { Load, MetricPoint, MetricsOptions } from "./metrics.ts";
export type { NetworkFlow, NetworkInfo, NetworkPolicy } from "./network.ts";
export type { OutputChunk } from "./output.ts";
export type { OpenPortOptions, PortAccess } from "./ports.ts";
export type { Ended, Signal } from "./process.ts";
export * from "./pty.ts";
export * from "./sandbox.ts";
export type { FollowOptions } from "./server-events.ts";
export type { CheckpointOptions, SnapshotInfo, Snapshots } from "./snapshots.ts";
export type { VolumeInfo, Volumes } from "./volumes.ts";
export type { WatchEvent, WatchHandle, WatchOptions } from "./watch.ts";
