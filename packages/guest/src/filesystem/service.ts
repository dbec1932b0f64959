import { statSync } from "node:fs";
import { WrennError } from "@wrenn/contract/core";
import { filesystem as wire } from "@wrenn/contract/wire";
import { type Call, type Method, serverStream, unary } from "../connect/method.ts";
import { fileError } from "../files/errors.ts";
import type { Identity } from "../identity/state.ts";
import { resolvePath } from "../users.ts";
import { makeDirectory, move, remove } from "./changes.ts";
import { type Entry, entryAt, listBelow } from "./entries.ts";
import { Watcher, type WatchOptions } from "./watch.ts";
import { WatchStream } from "./watch-stream.ts";

/** Watchers that clients left behind end with the agent; more than these at once is a mistake. */
const maxWatchers = 256;

function entryOf(path: string): Entry {
  try {
    return entryAt(path);
  } catch (thrown) {
    throw fileError(thrown, path);
  }
}

async function list(path: string, depth: number): Promise<Entry[]> {
  try {
    if (!statSync(path).isDirectory())
      throw new WrennError("invalid_request", `path is not a directory: ${path}`, { remedy: "List its parent." });
    return await listBelow(path, depth || 1);
  } catch (thrown) {
    throw fileError(thrown, path);
  }
}

type WatchRequest = Pick<wire.WatchDirRequest, "path" | "recursive" | "includeEntry" | "allowNetworkMounts">;

/** Watchers whose events are fetched by polling. */
class Watchers {
  readonly #byId = new Map<string, Watcher>();

  create(options: WatchOptions): string {
    if (this.#byId.size >= maxWatchers)
      throw new WrennError("rate_limited", `there are already ${maxWatchers} watchers`, { remedy: "Remove some." });
    const id = `w-${crypto.randomUUID()}`;
    this.#byId.set(id, new Watcher(options));
    return id;
  }

  get(id: string): Watcher {
    const watcher = this.#byId.get(id);
    if (watcher) return watcher;
    throw new WrennError("not_found", `watcher with id ${id} not found`, { remedy: "Create one." });
  }

  remove(id: string): void {
    this.get(id).close();
    this.#byId.delete(id);
  }
}

/** The methods of `filesystem.Filesystem`, by name. */
export function filesystemMethods(identity: Identity): Record<string, Method> {
  const watchers = new Watchers();
  const resolve = (path: string, call: Call) => resolvePath(path, call.user, identity.defaultWorkdir);
  const optionsOf = ({ path, recursive, includeEntry, allowNetworkMounts }: WatchRequest, call: Call) => {
    return { path: resolve(path, call), recursive, includeEntry, allowNetworkMounts };
  };
  return {
    Stat: unary(wire.StatRequestSchema, wire.StatResponseSchema, ({ path }, call) => ({
      entry: entryOf(resolve(path, call)),
    })),
    MakeDir: unary(wire.MakeDirRequestSchema, wire.MakeDirResponseSchema, (request, call) => {
      const path = resolve(request.path, call);
      makeDirectory(path, call.user);
      return { entry: entryOf(path) };
    }),
    Move: unary(wire.MoveRequestSchema, wire.MoveResponseSchema, async (request, call) => {
      const destination = resolve(request.destination, call);
      await move(resolve(request.source, call), destination, call.user);
      return { entry: entryOf(destination) };
    }),
    ListDir: unary(wire.ListDirRequestSchema, wire.ListDirResponseSchema, async ({ path, depth }, call) => ({
      entries: await list(resolve(path, call), depth),
    })),
    Remove: unary(wire.RemoveRequestSchema, wire.RemoveResponseSchema, async ({ path }, call) => {
      await remove(resolve(path, call));
      return {};
    }),
    WatchDir: serverStream(wire.WatchDirRequestSchema, (request, call) => {
      return new WatchStream(new Watcher(optionsOf(request, call)), call.json);
    }),
    CreateWatcher: unary(wire.CreateWatcherRequestSchema, wire.CreateWatcherResponseSchema, (request, call) => ({
      watcherId: watchers.create(optionsOf(request, call)),
    })),
    GetWatcherEvents: unary(
      wire.GetWatcherEventsRequestSchema,
      wire.GetWatcherEventsResponseSchema,
      async (request) => ({
        events: await watchers.get(request.watcherId).drain(),
      }),
    ),
    RemoveWatcher: unary(wire.RemoveWatcherRequestSchema, wire.RemoveWatcherResponseSchema, (request) => {
      watchers.remove(request.watcherId);
      return {};
    }),
  };
}
