import { timestampDate } from "@bufbuild/protobuf/wkt";
import { filesystem, WrennError } from "@wrenn/contract";
import type { Agent } from "./agent.ts";
import type { CallOptions } from "./api.ts";
import { fromAgentError } from "./errors.ts";
import { downloadTo, uploadFrom } from "./local-files.ts";
import { type WatchEvent, WatchHandle, type WatchOptions } from "./watch.ts";

/** Options of every file call. Relative paths and `~` mean the home folder of `user`. */
export type FileOptions = CallOptions & {
  /** User in the guest; default the sandbox's. */
  user?: string | undefined;
};

/** A file, folder or link of a sandbox. */
export type EntryInfo = {
  name: string;
  /** Absolute. */
  path: string;
  type: "file" | "directory" | "symlink" | "unknown";
  sizeBytes: number;
  /** Permission bits, such as 0o644. */
  mode: number;
  /** Such as `-rw-r--r--`. */
  permissions: string;
  owner: string;
  group: string;
  modifiedAt: Date | undefined;
  /** Where a link points. */
  symlinkTarget: string | undefined;
};

/** What a write leaves behind. */
export type WriteInfo = { path: string; name: string; type: string };

/** Contents a file can be written from. */
export type FileContents = string | Uint8Array | ArrayBuffer | Blob | ReadableStream<Uint8Array>;

/** What `read` can return. */
export type ReadFormats = {
  text: string;
  bytes: Uint8Array;
  blob: Blob;
  stream: ReadableStream<Uint8Array>;
};

const types = {
  [filesystem.FileType.UNSPECIFIED]: "unknown",
  [filesystem.FileType.FILE]: "file",
  [filesystem.FileType.DIRECTORY]: "directory",
  [filesystem.FileType.SYMLINK]: "symlink",
} as const satisfies Record<filesystem.FileType, EntryInfo["type"]>;

/** Files of a sandbox. Contents are streamed: size is limited by the guest's disk, memory use is constant. */
export class Files {
  readonly #agent: Agent;

  constructor(agent: Agent) {
    this.#agent = agent;
  }

  /**
   * Reads a file as text (the default), bytes, Blob or stream. Throws `not_found`, or `invalid_request` for a folder.
   *
   * @example
   * ```ts
   * const text = await sandbox.files.read("/etc/os-release");
   * const stream = await sandbox.files.read("/var/log/big.log", { format: "stream" });
   * ```
   */
  read(path: string, options?: FileOptions & { format?: "text" }): Promise<string>;
  read<F extends keyof ReadFormats>(path: string, options: FileOptions & { format: F }): Promise<ReadFormats[F]>;
  async read(path: string, options: FileOptions & { format?: keyof ReadFormats } = {}) {
    const response = await this.#contents(path, { method: "GET" }, options);
    switch (options.format ?? "text") {
      case "text":
        return response.text();
      case "bytes":
        return new Uint8Array(await response.arrayBuffer());
      case "blob":
        return response.blob();
      case "stream":
        return response.body ?? new Blob([]).stream();
    }
  }

  /**
   * Writes a file, replacing what was there; missing folders are made.
   *
   * @example
   * ```ts
   * await sandbox.files.write("~/hello.txt", "hello");
   * ```
   */
  async write(path: string, contents: FileContents, options: FileOptions = {}): Promise<WriteInfo> {
    const body = contents instanceof ReadableStream && !canStreamRequests ? await blobOf(contents) : contents;
    const init: RequestInit & { duplex?: "half" } = {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: body as NonNullable<RequestInit["body"]>,
      ...(body instanceof ReadableStream ? { duplex: "half" } : {}),
    };
    const response = await this.#contents(path, init, options);
    const [written] = (await response.json()) as WriteInfo[];
    if (!written) throw new WrennError("agent_error", "the guest agent confirmed no file");
    return written;
  }

  /** Copies a file of this machine into the sandbox (Node, Bun, Deno). */
  upload(localPath: string, path: string, options: FileOptions = {}): Promise<WriteInfo> {
    return uploadFrom(localPath, (stream) => this.write(path, stream, options));
  }

  /** Copies a file of the sandbox to this machine (Node, Bun, Deno); the local file appears only when complete. */
  async download(path: string, localPath: string, options: FileOptions = {}): Promise<void> {
    return downloadTo(localPath, await this.read(path, { ...options, format: "stream" }));
  }

  /** What a folder holds, parents before children; `depth` 1, the default, is the folder itself without subfolders. */
  async list(path: string, options: FileOptions & { depth?: number } = {}): Promise<EntryInfo[]> {
    const { depth = 1 } = options;
    const { entries } = await this.#call(options, (rpc) => this.#agent.filesystem.listDir({ path, depth }, rpc));
    return entries.map(entryInfo);
  }

  /** Whether a path names anything. */
  async exists(path: string, options: FileOptions = {}): Promise<boolean> {
    try {
      await this.stat(path, options);
      return true;
    } catch (thrown) {
      if (thrown instanceof WrennError && thrown.code === "not_found") return false;
      throw thrown;
    }
  }

  /** What a path names; throws `not_found`. */
  async stat(path: string, options: FileOptions = {}): Promise<EntryInfo> {
    return entryOf(await this.#call(options, (rpc) => this.#agent.filesystem.stat({ path }, rpc)));
  }

  /** The E2B SDK's name for {@link stat}. */
  getInfo(path: string, options: FileOptions = {}): Promise<EntryInfo> {
    return this.stat(path, options);
  }

  /** Makes a folder and its parents; false when it was there already. */
  async makeDir(path: string, options: FileOptions = {}): Promise<boolean> {
    try {
      await this.#call(options, (rpc) => this.#agent.filesystem.makeDir({ path }, rpc));
      return true;
    } catch (thrown) {
      if (thrown instanceof WrennError && thrown.code === "conflict") return false;
      throw thrown;
    }
  }

  /** Moves a file or folder; missing parents of the destination are made. */
  async rename(source: string, destination: string, options: FileOptions = {}): Promise<EntryInfo> {
    return entryOf(await this.#call(options, (rpc) => this.#agent.filesystem.move({ source, destination }, rpc)));
  }

  /** Removes a file, or a folder with everything in it; no error when there is none. */
  async remove(path: string, options: FileOptions = {}): Promise<void> {
    await this.#call(options, (rpc) => this.#agent.filesystem.remove({ path }, rpc));
  }

  /**
   * Watches a folder; resolves when the watch is in place, so that no later change is missed.
   *
   * @example
   * ```ts
   * const watch = await sandbox.files.watchDir("/app", (event) => console.log(event.type, event.name));
   * watch.stop();
   * ```
   */
  watchDir(
    path: string,
    onEvent: (event: WatchEvent) => unknown,
    options: FileOptions & WatchOptions = {},
  ): Promise<WatchHandle> {
    return WatchHandle.open(this.#agent, { path, onEvent, ...options });
  }

  async #contents(path: string, init: RequestInit, { user, signal, requestTimeoutMs }: FileOptions): Promise<Response> {
    const limit = requestTimeoutMs ? AbortSignal.timeout(requestTimeoutMs) : undefined;
    const signals = [signal, limit].filter((one) => one !== undefined);
    try {
      return await this.#agent.file(path, user, {
        ...init,
        ...(signals.length > 0 ? { signal: AbortSignal.any(signals) } : {}),
      });
    } catch (thrown) {
      throw fromAgentError(thrown, signal);
    }
  }

  async #call<T>(options: FileOptions, send: (rpc: RpcOptions) => Promise<T>): Promise<T> {
    const { user, signal, requestTimeoutMs = defaultTimeoutMs } = options;
    try {
      return await send({
        headers: this.#agent.as(user),
        timeoutMs: requestTimeoutMs,
        ...(signal ? { signal } : {}),
      });
    } catch (thrown) {
      throw fromAgentError(thrown, signal);
    }
  }
}

type RpcOptions = { headers: Record<string, string>; timeoutMs: number; signal?: AbortSignal };

/** For calls that carry no contents; uploads and downloads take as long as they take. */
const defaultTimeoutMs = 60_000;

/** Browsers send a stream only over HTTP/2 and not all of them, so there a stream is gathered into a Blob first. */
const canStreamRequests = typeof (globalThis as { document?: unknown }).document === "undefined";

const blobOf = (stream: ReadableStream<Uint8Array>): Promise<Blob> =>
  new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).blob();

/** The wire's entry as the SDK shows it. */
export function entryInfo(entry: filesystem.EntryInfo): EntryInfo {
  return {
    name: entry.name,
    path: entry.path,
    type: types[entry.type],
    sizeBytes: Number(entry.size),
    mode: entry.mode,
    permissions: entry.permissions,
    owner: entry.owner,
    group: entry.group,
    modifiedAt: entry.modifiedTime ? timestampDate(entry.modifiedTime) : undefined,
    symlinkTarget: entry.symlinkTarget,
  };
}

function entryOf({ entry }: { entry?: filesystem.EntryInfo | undefined }): EntryInfo {
  if (!entry) throw new WrennError("agent_error", "the guest agent described no file");
  return entryInfo(entry);
}
