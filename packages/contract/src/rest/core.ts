import { z } from "zod";
import type { Code } from "../errors.ts";
import { safeName, sandboxName, taggedName } from "../ids.ts";
import { states } from "../state.ts";
import { NetworkPolicy } from "./network.ts";
import { Mounts } from "./volumes.ts";

/** Shapes of the public REST API in the Wrenn dialect; OpenAPI is generated from them. Times are RFC 3339, UTC. */

/** Largest request body of the buffered file routes, bytes; the streamed ones have no limit. */
export const maxBufferedFileBytes = 100 * 1024 * 1024;

const limits = {
  /** What one emulated or KVM guest of any supported VMM can be given. */
  vcpus: 32,
  memoryMib: 65_536,
  diskMib: 1_048_576,
  /** Thirty days: longer than any session, short enough that a forgotten sandbox ends. */
  timeoutSec: 30 * 24 * 3600,
} as const;

/** The smallest memory a template's guest boots in, MiB. */
export const minMemoryMib = 128;

const text = (max: number) => z.string().max(max);
const stringMap = z.record(z.string().max(256), text(32_768));

const capsuleName = z
  .string()
  .regex(sandboxName, "a name has 1 to 64 letters, digits, `.`, `_`, `-`, begins with a letter or digit, and is no id");

/** A sandbox as the Wrenn dialect shows it. */
export const Capsule = z
  .object({
    id: z.string().meta({ example: "cl-0abcdefghijklmnopqrstuvwx" }),
    name: z.string().optional().meta({ description: "Absent when it has none.", example: "build-42" }),
    status: z.enum(states),
    template: z.string(),
    vcpus: z.int(),
    memory_mb: z.int(),
    disk_size_mb: z.int(),
    disk_used_mb: z.int().optional(),
    disk_only: z.boolean().optional().meta({ description: "It is paused without its memory: a resume boots it." }),
    timeout_sec: z.int().meta({ description: "Seconds of inactivity until it is paused; 0 means never." }),
    guest_ip: z.string().optional(),
    host_ip: z.string().optional(),
    created_at: z.string(),
    started_at: z.string().optional(),
    last_active_at: z.string().optional(),
    last_updated: z.string(),
    origin: z
      .string()
      .optional()
      .meta({ description: "Name of the snapshot its memory and disk come from; absent for a template's own." }),
    error: z
      .string()
      .optional()
      .meta({ description: "Why the status is `error` or `stopped`, when it was not asked for." }),
    hibernated: z
      .boolean()
      .optional()
      .meta({ description: "Of a paused one: it is in the object store, and any fitting host resumes it." }),
    metadata: stringMap.optional(),
    volumes: z
      .array(z.object({ name: z.string(), path: z.string() }))
      .optional()
      .meta({ description: "Volumes that are mounted in it; absent when there are none." }),
  })
  .meta({ id: "Capsule" });
export type Capsule = z.infer<typeof Capsule>;

/** Body of `POST /v1/capsules`. Absent or zero sizes take the template's defaults. */
export const CreateCapsule = z
  .object({
    name: capsuleName
      .optional()
      .meta({ description: "One that no other living sandbox of the team has.", example: "build-42" }),
    template: z
      .string()
      .regex(taggedName, "a template name has 1 to 64 letters, digits, `.`, `_`, `-`, and may end in `:TAG`")
      .default("minimal"),
    vcpus: z.int().min(0).max(limits.vcpus).optional(),
    memory_mb: z
      .int()
      .max(limits.memoryMib)
      .refine((mib) => mib === 0 || mib >= minMemoryMib, `at least ${minMemoryMib} MiB`)
      .optional(),
    disk_size_mb: z.int().min(0).max(limits.diskMib).optional(),
    timeout_sec: z.int().min(0).max(limits.timeoutSec).default(0),
    timeout_action: z.enum(["pause", "kill"]).default("pause"),
    envs: stringMap.optional(),
    metadata: stringMap.optional(),
    network: NetworkPolicy.optional().meta({ description: "What it may reach; absent: what its host allows." }),
    volumes: Mounts.optional().meta({ description: "Volumes of the team that it mounts; they must be on one host." }),
    availability_zone: z
      .string()
      .min(1)
      .max(64)
      .optional()
      .meta({ description: "Only a host of this zone will do; absent: any." }),
  })
  .meta({ id: "CreateCapsule" });
export type CreateCapsule = z.infer<typeof CreateCapsule>;
/** What a client sends: defaults are optional. */
export type CreateCapsuleInput = z.input<typeof CreateCapsule>;

/** Body of `POST /v1/capsules/{id}/resume`. */
export const DiskOnly = z
  .object({
    disk_only: z
      .boolean()
      .default(false)
      .meta({ description: "Gives memory and processes up: files stay, and the sandbox boots when it runs again." }),
  })
  .meta({ id: "DiskOnly" });

/** Body of `PATCH /v1/capsules/{id}`; what is absent stays. */
export const UpdateCapsule = z
  .object({
    name: capsuleName.nullable().optional().meta({ description: "`null` takes the name away." }),
    metadata: stringMap.optional().meta({ description: "Replaces all labels." }),
  })
  .meta({ id: "UpdateCapsule" });
export type UpdateCapsule = z.infer<typeof UpdateCapsule>;

/** Body of `POST /v1/capsules/{id}/pause`. */
export const PauseCapsule = DiskOnly.extend({
  hibernate: z
    .boolean()
    .default(false)
    .meta({ description: "Moves it to the object store too, so that its host holds nothing of it." }),
}).meta({ id: "PauseCapsule" });

/** Body of `POST /v1/capsules/{id}/timeout`. */
export const SetTimeout = z.object({ timeout_sec: z.int().min(0).max(limits.timeoutSec) }).meta({ id: "SetTimeout" });

/** Body of `POST /v1/capsules/{id}/exec`. */
export const ExecRequest = z
  .object({
    cmd: z.string().min(1).meta({ description: "A program, run directly with `args`; no shell is implied." }),
    args: z.array(z.string()).default([]),
    timeout_sec: z
      .int()
      .min(1)
      .max(24 * 3600)
      .default(30),
    background: z.boolean().default(false),
    tag: text(128).optional(),
    envs: stringMap.optional(),
    cwd: z.string().optional(),
    user: text(64).optional(),
  })
  .meta({ id: "ExecRequest" });
export type ExecRequest = z.infer<typeof ExecRequest>;

/** Answer of a foreground exec. Both streams are base64 when either is not valid UTF-8. */
export const ExecResult = z
  .object({
    sandbox_id: z.string(),
    cmd: z.string(),
    stdout: z.string(),
    stderr: z.string(),
    exit_code: z.int(),
    duration_ms: z.number(),
    encoding: z.enum(["utf-8", "base64"]),
    truncated: z
      .boolean()
      .optional()
      .meta({ description: "True when output beyond 16 MiB was dropped; stream it instead." }),
  })
  .meta({ id: "ExecResult" });
export type ExecResult = z.infer<typeof ExecResult>;

/** Answer of a background exec. */
export const BackgroundResult = z
  .object({ sandbox_id: z.string(), cmd: z.string(), pid: z.int(), tag: z.string() })
  .meta({ id: "BackgroundResult" });
export type BackgroundResult = z.infer<typeof BackgroundResult>;

/** Body of the file routes that name one path. */
export const PathRequest = z.object({ path: z.string().min(1).max(4096) }).meta({ id: "PathRequest" });

/** Body of `POST /v1/capsules/{id}/files/list`. */
export const ListRequest = z
  .object({ path: z.string().min(1).max(4096), depth: z.int().min(0).max(64).default(1) })
  .meta({ id: "ListRequest" });

/** A file as the Wrenn dialect shows it; `modified_at` is unix seconds, `mode` the permission bits. */
export const FileEntry = z
  .object({
    name: z.string(),
    path: z.string(),
    type: z.enum(["file", "directory", "symlink", "unknown"]),
    size: z.int(),
    mode: z.int(),
    permissions: z.string(),
    owner: z.string(),
    group: z.string(),
    modified_at: z.int(),
    symlink_target: z.string().optional(),
  })
  .meta({ id: "FileEntry" });
export type FileEntry = z.infer<typeof FileEntry>;

/** Answer of `files/list`. */
export const FileList = z.object({ entries: z.array(FileEntry) }).meta({ id: "FileList" });

/** Answer of `files/mkdir`. */
export const FileCreated = z.object({ entry: FileEntry }).meta({ id: "FileCreated" });

/** A process of a sandbox. */
export const ProcessEntry = z
  .object({ pid: z.int(), tag: z.string().optional(), cmd: z.string(), args: z.array(z.string()).optional() })
  .meta({ id: "ProcessEntry" });
export type ProcessEntry = z.infer<typeof ProcessEntry>;

/** Answer of `GET /v1/capsules/{id}/processes`. */
export const ProcessList = z.object({ processes: z.array(ProcessEntry) }).meta({ id: "ProcessList" });

/** A template as the Wrenn dialect lists it at `GET /v1/snapshots`. */
export const Template = z
  .object({
    name: z.string(),
    type: z.enum(["base", "snapshot"]),
    vcpus: z.int().optional(),
    memory_mb: z.int().optional(),
    size_bytes: z.int(),
    created_at: z.string(),
    platform: z.boolean(),
    metadata: stringMap.optional(),
  })
  .meta({ id: "Template" });
export type Template = z.infer<typeof Template>;

/** A point in time of a sandbox: memory, processes and disk. It is a template too: create takes its name. */
export const Snapshot = Template.extend({
  type: z.literal("snapshot"),
  template: z.string().optional().meta({ description: "The template that its disk and memory lie on." }),
  capsule_id: z.string().meta({ description: "The sandbox it was taken of; it may be gone." }),
  parent: z.string().optional().meta({ description: "Name of the snapshot before it in its line." }),
}).meta({ id: "Snapshot" });
export type Snapshot = z.infer<typeof Snapshot>;

/** Body of `POST /v1/capsules/{id}/checkpoint`: the sandbox runs on. */
export const CreateCheckpoint = z
  .object({
    name: z.string().regex(safeName).optional(),
    metadata: stringMap.optional(),
    disk_only: z
      .boolean()
      .default(false)
      .meta({ description: "Leaves the memory out: what is created from it boots." }),
  })
  .meta({ id: "CreateCheckpoint" });

/** Body of `POST /v1/snapshots`: as a checkpoint, but the sandbox is paused afterwards, as existing clients expect. */
export const CreateSnapshot = CreateCheckpoint.omit({ disk_only: true })
  .extend({ sandbox_id: z.string() })
  .meta({ id: "CreateSnapshot" });

/** Body of `POST /v1/capsules/{id}/fork`. */
export const ForkCapsule = z
  .object({
    count: z.int().min(1).max(100).default(1),
    timeout_sec: z.int().min(0).max(limits.timeoutSec).optional(),
    envs: stringMap.optional(),
    metadata: stringMap.optional(),
  })
  .meta({ id: "ForkCapsule" });

/** Body of `POST /v1/capsules/{id}/rollback`. */
export const RollbackCapsule = z.object({ snapshot: z.string() }).meta({ id: "RollbackCapsule" });

/** Body of `POST /v1/capsules/{id}/ports/{port}`. */
export const OpenPort = z
  .object({
    public: z
      .boolean()
      .optional()
      .meta({ description: "Whether anybody may reach the port; absent leaves it as it is, private at first." }),
    expires_sec: z
      .int()
      .min(1)
      .max(limits.timeoutSec)
      .optional()
      .meta({ description: "Seconds until the signed link ends; an hour when absent." }),
  })
  .meta({ id: "OpenPort" });

/** Body of `POST /v1/capsules/{id}/ports/{port}/wait`. */
export const WaitForPort = z
  .object({ timeout_sec: z.number().min(0).max(600).default(60) })
  .meta({ id: "WaitForPort" });

/** How a port of a sandbox is reached. */
export const PortInfo = z
  .object({
    url: z.string(),
    public: z.boolean(),
    token: z.string().optional().meta({ description: "Opens the port in the header X-Wrenn-Traffic-Token." }),
    signed_url: z.string().optional().meta({ description: "Opens the port in a browser, until it ends." }),
  })
  .meta({ id: "PortInfo" });
export type PortInfo = z.infer<typeof PortInfo>;

/** Answer of `GET /health`. */
export const Health = z.object({ status: z.literal("ok"), version: z.string() }).meta({ id: "Health" });

/** The error envelope. */
export const ErrorBodySchema = z
  .object({
    error: z.object({
      code: z.string(),
      message: z.string(),
      cause: z.string().optional().meta({ description: "What stands behind it, where something does." }),
      remedy: z.string().optional().meta({ description: "What to do about it." }),
      request_id: z.string().optional().meta({ description: "Under which the server's log tells more." }),
      details: z.record(z.string(), z.string()).optional(),
    }),
  })
  .meta({ id: "Error" });

/** Frames of the WebSocket routes, client to server (reference: Wrenn REST API 8.9). `data` is base64 for PTY input. */
export const StreamClientFrame = z.discriminatedUnion("type", [
  z.object({ type: z.literal("auth"), token: z.string() }),
  z.object({
    type: z.literal("start"),
    cmd: z.string().optional(),
    args: z.array(z.string()).default([]),
    envs: stringMap.default({}),
    cwd: z.string().default(""),
    user: z.string().default(""),
    cols: z.int().min(1).max(65_535).default(80),
    rows: z.int().min(1).max(65_535).default(24),
  }),
  z.object({ type: z.literal("connect"), tag: z.string() }),
  z.object({ type: z.literal("input"), data: z.string() }),
  z.object({ type: z.literal("resize"), cols: z.int().min(1).max(65_535), rows: z.int().min(1).max(65_535) }),
  z.object({ type: z.literal("kill") }),
  z.object({ type: z.literal("stop") }),
]);
export type StreamClientFrame = z.infer<typeof StreamClientFrame>;

/** Frames of the WebSocket routes, server to client. PTY `output` is base64, exec output is text. */
export type StreamServerFrame =
  | { type: "start"; pid: number }
  | { type: "started"; tag: string; pid: number }
  | { type: "stdout" | "stderr" | "output"; data: string }
  | { type: "exit"; exit_code: number }
  | { type: "error"; data: string; code: Code; fatal?: boolean }
  | { type: "ping" };
