import { type rest, WrennError } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";
import { errorOf, unreachable } from "./errors.ts";
import { blocks, dataOf } from "./server-events.ts";

/** A line of a build's log. `step` and `done` stand around an instruction, `cached` says that it was not needed. */
export type BuildLogLine = {
  /** Rises with every line. */
  seq: number;
  at: Date;
  /** Number of the instruction, from 1; 0 before the first. */
  step: number;
  stream: "step" | "cached" | "done" | "stdout" | "stderr" | "info" | "warn" | "error";
  message: string;
};

/** A build of a template: queued, running, or over. */
export type BuildInfo = {
  id: string;
  template: string;
  /** A `waiting` one is announced, and not submitted yet. */
  status: "waiting" | "pending" | "running" | "success" | "failed" | "cancelled";
  currentStep: number;
  totalSteps: number;
  tags: string[];
  vcpus: number;
  memoryMiB: number;
  sizeBytes: number;
  /** Why it failed, with the line of the Dockerfile or recipe. */
  error: { message: string; remedy?: string; line?: number; step?: number } | undefined;
  /** What it began with, by name and digest. */
  from: { name: string; digest: string }[];
  by: string;
  /** What commands get that say nothing themselves. */
  defaults: { user: string; workdir: string; env: Record<string, string> };
  createdAt: Date;
  completedAt: Date | undefined;
};

/** A template that was built. */
export type BuiltTemplateInfo = {
  id: string;
  name: string;
  /** Whether it is the installation's, for every team. */
  platform: boolean;
  /** Whether it is the team's own. */
  own: boolean;
  tags: { tag: string; build: string; createdAt: Date }[];
  /** The version that the bare name means; absent until a build has succeeded. */
  current: BuildInfo | undefined;
  createdAt: Date;
};

/** What is to be built: exactly one of `dockerfile`, `recipe` and `from`. */
export type BuildOptions = CallOptions & {
  /** Text of a Dockerfile. */
  dockerfile?: string | undefined;
  /** One instruction an element: RUN, START, ENV, WORKDIR, USER, COPY. */
  recipe?: string[] | undefined;
  /** What the recipe begins with; `minimal` when absent. */
  baseTemplate?: string | undefined;
  /** A template or an image, taken as it is; `archive:SHA256` is an uploaded `docker save` or OCI archive. */
  from?: string | undefined;
  /** SHA-256 of an archive sent with {@link Builds.upload}: what COPY takes from. */
  files?: string | undefined;
  /** Who opens the registry of the image. */
  registry?: { username: string; password: string } | undefined;
  /** Values, text or bytes, that steps read with `RUN --mount=type=secret`, by id. No part of the result. */
  secrets?: Record<string, string | Uint8Array> | undefined;
  /** Build arguments. */
  args?: Record<string, string> | undefined;
  /** The stage of the Dockerfile to build. */
  target?: string | undefined;
  /** What runs when a sandbox starts; its processes are part of the template. */
  startCommand?: string | undefined;
  /** A command that must succeed before the template is frozen. */
  healthcheck?: string | undefined;
  tags?: string[] | undefined;
  vcpus?: number | undefined;
  memoryMiB?: number | undefined;
  noCache?: boolean | undefined;
  timeoutMs?: number | undefined;
};

/** How often a build under way is asked for its log. */
const followMs = 250;

/**
 * Templates that are built here, as `client.builds`.
 *
 * @example
 * ```ts
 * const client = new Wrenn();
 * const { id } = await client.builds.start("tools", { dockerfile: "FROM base\nRUN pip install requests\n" });
 * for await (const { message } of client.builds.follow(id)) console.log(message);
 * await client.builds.wait(id); // throws when it failed
 * const sandbox = await Sandbox.create({ client, template: "tools" });
 * ```
 */
export class Builds {
  readonly #client: Api;

  constructor(client: Api) {
    this.#client = client;
  }

  /** Puts a build of `name` or `name:tag` into the queue. Throws `invalid_request` with `details.line` for what is not well written. */
  async start(name: string, options: BuildOptions): Promise<BuildInfo> {
    const { signal, requestTimeoutMs, ...wishes } = options;
    const path = `/v1/templates/${encodeURIComponent(name)}/builds`;
    const body = bodyOf(wishes);
    return buildInfo(await this.#client.request<rest.Build>("POST", path, { signal, requestTimeoutMs, body }));
  }

  /** How a build stands. */
  async get(id: string, options: CallOptions = {}): Promise<BuildInfo> {
    return buildInfo(await this.#client.request<rest.Build>("GET", pathOf(id), options));
  }

  /** The team's builds, newest first; of one template when it is named. */
  async list(options: CallOptions & { template?: string | undefined } = {}): Promise<BuildInfo[]> {
    const query = options.template === undefined ? "" : `?template=${encodeURIComponent(options.template)}`;
    return (await this.#client.request<rest.Build[]>("GET", `/v1/builds${query}`, options)).map(buildInfo);
  }

  /** The log from its begin, line by line as they come, until the build is over; answers the build. */
  async *follow(id: string, { signal }: CallOptions = {}): AsyncGenerator<BuildLogLine, BuildInfo> {
    const { baseUrl } = await this.#client.endpoint();
    const init = { headers: { Accept: "text/event-stream" }, ...(signal && { signal }) };
    try {
      const response = await this.#client.send(`${pathOf(id)}/logs`, init);
      if (!response.ok || !response.body) throw await errorOf(response);
      for await (const block of blocks(response.body)) {
        if (/^event: end$/m.test(block)) return buildInfo(dataOf<rest.Build>(block)!);
        const line = dataOf<rest.BuildLogLine>(block);
        if (line) yield { ...line, at: new Date(line.at) };
      }
      throw new Error("the connection ended before the build did");
    } catch (thrown) {
      if (signal?.aborted) throw signal.reason;
      throw thrown instanceof WrennError ? thrown : unreachable(baseUrl, thrown);
    }
  }

  /** Waits for the end of a build. Throws `agent_error` with the cause when it failed or was cancelled. */
  async wait(id: string, options: CallOptions = {}): Promise<BuildInfo> {
    for (;;) {
      const build = await this.get(id, options);
      if (build.completedAt) return succeeded(build);
      await new Promise((resolve) => setTimeout(resolve, followMs));
      options.signal?.throwIfAborted();
    }
  }

  /** Ends a build; the version before it stays. Throws `invalid_state` when it is over. */
  async cancel(id: string, options: CallOptions = {}): Promise<void> {
    await this.#client.request("POST", `${pathOf(id)}/cancel`, options);
  }

  /** Sends an archive (tar, tar.gz, tar.zst, zip) unless the server has it. `sha256` is its digest, in hexadecimal. */
  async upload(sha256: string, body: () => BodyInit, options: CallOptions = {}): Promise<{ sent: boolean }> {
    const path = `/v1/templates/files/${sha256}`;
    const { present } = await this.#client.request<rest.BuildFilesPresent>("GET", path, options);
    if (present) return { sent: false };
    const { signal } = options;
    const response = await this.#client.send(path, { method: "PUT", body: body(), ...(signal && { signal }) });
    if (!response.ok) throw await errorOf(response);
    return { sent: true };
  }

  /**
   * A version, `NAME` or `NAME:TAG`, as a file that another installation imports: an OCI artifact in a tar with its disk
   * and what it starts. Memory is not in it.
   */
  async export(name: string, { signal }: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#client.send(`${templatePath(name)}/export`, { ...(signal && { signal }) });
    if (!response.ok) throw await errorOf(response);
    return response.body!;
  }

  /** The templates that were built: the team's own and the installation's. */
  async templates(options: CallOptions = {}): Promise<BuiltTemplateInfo[]> {
    const found = await this.#client.request<rest.BuiltTemplate[]>("GET", "/v1/templates", options);
    return found.map(builtTemplateInfo);
  }

  /** One of them, by name or id. Throws `not_found`. */
  async template(name: string, options: CallOptions = {}): Promise<BuiltTemplateInfo> {
    return builtTemplateInfo(await this.#client.request<rest.BuiltTemplate>("GET", templatePath(name), options));
  }

  /** Points tags at a version, which is a tag or the id of a build. */
  async tag(name: string, tags: string[], version = "default", options: CallOptions = {}): Promise<BuiltTemplateInfo> {
    const body = { tags, version };
    const path = `${templatePath(name)}/tags`;
    return builtTemplateInfo(await this.#client.request<rest.BuiltTemplate>("POST", path, { ...options, body }));
  }

  /** Removes a tag. */
  async untag(name: string, tag: string, options: CallOptions = {}): Promise<void> {
    await this.#client.request("DELETE", `${templatePath(name)}/tags/${encodeURIComponent(tag)}`, options);
  }

  /** Removes a template with all its versions; sandboxes stay. False when there is none. */
  async remove(name: string, options: CallOptions = {}): Promise<boolean> {
    try {
      await this.#client.request("DELETE", templatePath(name), options);
      return true;
    } catch (thrown) {
      if (thrown instanceof WrennError && thrown.code === "not_found") return false;
      throw thrown;
    }
  }
}

const pathOf = (id: string): string => `/v1/builds/${encodeURIComponent(id)}`;
const templatePath = (name: string): string => `/v1/templates/${encodeURIComponent(name)}`;

/** The build, if it succeeded. Throws its error. */
export function succeeded(build: BuildInfo): BuildInfo {
  if (build.status === "success") return build;
  const { message = build.status, remedy, line } = build.error ?? {};
  throw new WrennError("agent_error", message, {
    remedy,
    details: { build: build.id, status: build.status, ...(line !== undefined && { line: String(line) }) },
  });
}

function bodyOf(wishes: Omit<BuildOptions, keyof CallOptions>): rest.CreateBuildInput {
  const { baseTemplate, startCommand, memoryMiB, noCache, timeoutMs, secrets, ...same } = wishes;
  const all = {
    ...same,
    secrets: secrets && Object.fromEntries(Object.entries(secrets).map(([id, value]) => [id, base64(value)])),
    ...{ base_template: baseTemplate, start_command: startCommand, memory_mb: memoryMiB, no_cache: noCache },
    timeout_sec: timeoutMs === undefined ? undefined : Math.max(1, Math.ceil(timeoutMs / 1000)),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Base64 of text or bytes, with what every runtime has. */
function base64(value: string | Uint8Array): string {
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

function buildInfo(build: rest.Build): BuildInfo {
  return {
    ...{
      id: build.id,
      template: build.template,
      status: build.status,
      tags: build.tags,
      from: build.from,
      by: build.by,
    },
    ...{ currentStep: build.current_step, totalSteps: build.total_steps },
    ...{ vcpus: build.vcpus, memoryMiB: build.memory_mb, sizeBytes: build.size_bytes },
    defaults: { user: build.default_user, workdir: build.default_workdir, env: build.default_env },
    error: build.error as BuildInfo["error"],
    createdAt: new Date(build.created_at),
    completedAt: build.completed_at === undefined ? undefined : new Date(build.completed_at),
  };
}

const builtTemplateInfo = ({ id, name, platform, own, ...rest }: rest.BuiltTemplate): BuiltTemplateInfo => ({
  ...{ id, name, platform, own },
  tags: rest.tags.map(({ tag, build, created_at }) => ({ tag, build, createdAt: new Date(created_at) })),
  current: rest.current && buildInfo(rest.current),
  createdAt: new Date(rest.created_at),
});
