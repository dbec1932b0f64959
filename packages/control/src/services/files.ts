import { filesystem, type rest, type SandboxId } from "@wrenn/contract";
import type { Caller } from "./caller.ts";
import { type Guests, guestError } from "./guests.ts";

const types = {
  [filesystem.FileType.UNSPECIFIED]: "unknown",
  [filesystem.FileType.FILE]: "file",
  [filesystem.FileType.DIRECTORY]: "directory",
  [filesystem.FileType.SYMLINK]: "symlink",
} as const satisfies Record<filesystem.FileType, rest.FileEntry["type"]>;

/** Files of running sandboxes. Relative paths and `~` mean the default user's home. */
export class Files {
  constructor(readonly guests: Guests) {}

  /** Writes a file, whole or as it arrives; parents are made. A body that breaks off leaves no file that looks complete. */
  async write(
    caller: Caller,
    id: SandboxId,
    path: string,
    body: Uint8Array | ReadableStream<Uint8Array>,
  ): Promise<void> {
    await this.#http(caller, id, path, {
      method: "POST",
      headers: { "content-type": "application/octet-stream" },
      body: body as BodyInit,
      duplex: "half",
    });
  }

  /** The file's bytes as they come. Throws `not_found`, or `invalid_request` for a directory. */
  async read(caller: Caller, id: SandboxId, path: string, signal: AbortSignal): Promise<Response> {
    return await this.#http(caller, id, path, { method: "GET", headers: { "accept-encoding": "identity" }, signal });
  }

  /** What a directory holds, `depth` levels deep. */
  async list(caller: Caller, id: SandboxId, request: { path: string; depth: number }): Promise<rest.FileEntry[]> {
    const guest = await this.guests.open(caller, id);
    const { entries } = await told(guest.filesystem.listDir({ path: request.path, depth: request.depth || 1 }));
    return entries.map(entryOf);
  }

  /** Makes a directory and its parents. Throws `conflict` when it exists. */
  async makeDir(caller: Caller, id: SandboxId, path: string): Promise<rest.FileEntry> {
    const guest = await this.guests.open(caller, id);
    const { entry } = await told(guest.filesystem.makeDir({ path }));
    return entryOf(entry!);
  }

  /** Removes a file, or a directory with all it holds; a missing one is no error. */
  async remove(caller: Caller, id: SandboxId, path: string): Promise<void> {
    const guest = await this.guests.open(caller, id);
    await told(guest.filesystem.remove({ path }));
  }

  async #http(caller: Caller, id: SandboxId, path: string, init: RequestInit & { duplex?: "half" }): Promise<Response> {
    const guest = await this.guests.open(caller, id);
    return await told(guest.http(`/files?path=${encodeURIComponent(path)}`, { decompress: false, ...init }));
  }
}

async function told<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (thrown) {
    throw guestError(thrown);
  }
}

function entryOf(entry: filesystem.EntryInfo): rest.FileEntry {
  return {
    name: entry.name,
    path: entry.path,
    type: types[entry.type] ?? "unknown",
    size: Number(entry.size),
    mode: entry.mode,
    permissions: entry.permissions,
    owner: entry.owner,
    group: entry.group,
    modified_at: Number(entry.modifiedTime?.seconds ?? 0n),
    ...(entry.symlinkTarget && { symlink_target: entry.symlinkTarget }),
  };
}
