import { z } from "zod";
import type { Code } from "../errors.ts";
import { minMemoryMib } from "./core.ts";

/** Shapes of templates and their builds in the REST API. */

/** Largest archive that a build can copy from, bytes. */
export const maxBuildFilesBytes = 2 * 1024 ** 3;

/** Most instructions of one build. */
const maxLines = 1_000;
const maxVcpus = 32;
const maxMemoryMib = 65_536;
const hashPattern = /^[0-9a-f]{64}$/;

/** Most bytes of one secret of a build: a key or a configuration, not data. */
const maxSecretBytes = 64 * 1024;
/** The name under which a step asks for a secret. */
const secretId = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

/** A tag of a version. */
export const templateTag = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$/;

const size = {
  vcpus: z.int().min(1).max(maxVcpus).default(1),
  memory_mb: z.int().min(minMemoryMib).max(maxMemoryMib).default(512),
};

/** Body of `POST /v1/templates/{name}/builds`: a Dockerfile, or a recipe of one instruction a line. */
export const CreateBuild = z
  .object({
    dockerfile: z
      .string()
      .max(1024 * 1024)
      .optional()
      .meta({ description: "Text of a Dockerfile." }),
    recipe: z
      .array(z.string().max(64 * 1024))
      .min(1)
      .max(maxLines)
      .optional(),
    base_template: z.string().optional().meta({ description: "What a recipe begins with; `minimal` when absent." }),
    from: z
      .string()
      .optional()
      .meta({ description: "Instead of both: a template, an image, or `archive:SHA256` of an uploaded one." }),
    healthcheck: z
      .string()
      .max(64 * 1024)
      .optional()
      .meta({
        description: "A command that must succeed before the template is frozen, with the flags of the reference.",
      }),
    start_command: z
      .string()
      .max(64 * 1024)
      .optional(),
    files: z
      .string()
      .regex(hashPattern, "a SHA-256 in hexadecimal digits")
      .optional()
      .meta({ description: "SHA-256 of the uploaded archive that COPY takes from." }),
    registry: z
      .object({ username: z.string().max(1024), password: z.string().max(16_384) })
      .optional()
      .meta({ description: "Who opens the registry of an image; kept encrypted until the build is over." }),
    secrets: z
      .record(
        z.string().regex(secretId, "an id has letters, digits, `_`, `.`, `-`"),
        z.base64().max(Math.ceil(maxSecretBytes / 3) * 4),
      )
      .default({})
      .meta({
        description:
          "Values, in Base64, that steps read with RUN --mount=type=secret; no part of the result, and kept encrypted until the build is over.",
      }),
    args: z.record(z.string().max(256), z.string().max(32_768)).default({}),
    target: z.string().max(128).optional().meta({ description: "The stage to build; the last one when absent." }),
    tags: z.array(z.string().regex(templateTag, "a tag has letters, digits, `.`, `_`, `-`")).max(20).default([]),
    no_cache: z.boolean().default(false),
    skip_pre_post: z
      .boolean()
      .default(true)
      .meta({ description: "Whether a recipe's usual first and last steps are left out." }),
    timeout_sec: z
      .int()
      .min(1)
      .max(24 * 3600)
      .default(3600),
    ...size,
  })
  .meta({ id: "CreateBuild" });
export type CreateBuild = z.infer<typeof CreateBuild>;
/** What a client sends: defaults are optional. */
export type CreateBuildInput = z.input<typeof CreateBuild>;

/** How a build stands. A `waiting` one is announced, and not submitted yet. */
export const buildStatuses = ["waiting", "pending", "running", "success", "failed", "cancelled"] as const;

/** A build of a template. */
export const Build = z
  .object({
    id: z.string(),
    template: z.string(),
    status: z.enum(buildStatuses),
    current_step: z.int(),
    total_steps: z.int(),
    tags: z.array(z.string()),
    vcpus: z.int(),
    memory_mb: z.int(),
    size_bytes: z.int(),
    error: z
      .object({
        message: z.string(),
        remedy: z.string().optional(),
        line: z.int().optional(),
        step: z.int().optional(),
      })
      .optional(),
    from: z.array(z.object({ name: z.string(), digest: z.string() })).meta({ description: "What it began with." }),
    by: z.string().meta({ description: "Who asked for it." }),
    default_user: z.string(),
    default_workdir: z.string(),
    default_env: z.record(z.string(), z.string()),
    created_at: z.string(),
    started_at: z.string().optional(),
    completed_at: z.string().optional(),
  })
  .meta({ id: "Build" });
export type Build = z.infer<typeof Build>;

/** What a line of a build's log is. */
export const logStreams = ["step", "cached", "done", "stdout", "stderr", "info", "warn", "error"] as const;

/** A line of a build's log. */
export const BuildLogLine = z
  .object({ seq: z.int(), at: z.string(), step: z.int(), stream: z.enum(logStreams), message: z.string() })
  .meta({ id: "BuildLogLine" });
export type BuildLogLine = z.infer<typeof BuildLogLine>;

/** Lines of a log, and how the build stood when they were read. */
export const BuildLog = z.object({ build: Build, lines: z.array(BuildLogLine) }).meta({ id: "BuildLog" });
export type BuildLog = z.infer<typeof BuildLog>;

/** Frames of a build's log over a WebSocket: each line, then the build once it is over. */
export type BuildFrame =
  | ({ type: "log" } & BuildLogLine)
  | { type: "end"; build: Build }
  | { type: "ping" }
  | { type: "error"; data: string; code: Code; fatal?: boolean };

/** A name of a version. */
export const TemplateTag = z
  .object({ tag: z.string(), build: z.string(), created_at: z.string() })
  .meta({ id: "TemplateTag" });

/** A template that was built, with its newest version. */
export const BuiltTemplate = z
  .object({
    id: z.string(),
    name: z.string(),
    platform: z.boolean(),
    own: z.boolean().meta({ description: "Whether it is the team's own." }),
    tags: z.array(TemplateTag),
    current: Build.optional().meta({ description: "The version that the bare name means." }),
    created_at: z.string(),
  })
  .meta({ id: "BuiltTemplate" });
export type BuiltTemplate = z.infer<typeof BuiltTemplate>;

/** Body of `POST /v1/templates/{name}/tags`. */
export const TagTemplate = z
  .object({
    tags: z.array(z.string().regex(templateTag, "a tag has letters, digits, `.`, `_`, `-`")).min(1).max(20),
    version: z.string().default("default").meta({ description: "A tag, or the id of a build." }),
  })
  .meta({ id: "TagTemplate" });

/** Whether an archive is there. */
export const BuildFilesPresent = z.object({ present: z.boolean() }).meta({ id: "BuildFilesPresent" });
export type BuildFilesPresent = z.infer<typeof BuildFilesPresent>;
