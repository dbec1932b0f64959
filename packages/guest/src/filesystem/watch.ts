import { readdirSync, realpathSync, statfsSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { WrennError } from "@wrenn/contract/core";
import { filesystem as wire } from "@wrenn/contract/wire";
import { fileError } from "../files/errors.ts";
import { isTemporary, replacesAnother } from "../files/temporary.ts";
import { SystemError } from "../native.ts";
import { type Entry, entryAt } from "./entries.ts";
import { bit, Inotify, type InotifyEvent } from "./inotify.ts";

/** An event as the wire has it. */
export type FileEvent = MessageInitShape<typeof wire.FilesystemEventSchema>;

/** What is watched, and how. */
export type WatchOptions = { path: string; recursive: boolean; includeEntry: boolean; allowNetworkMounts: boolean };

/** Events nobody has fetched; with more, the kernel's own queue (16,384 by default) fills and then drops. */
const maxWaiting = 10_000;

/** How long a fetch waits for the kernel's queue to be read, which a busy folder may never let happen. */
const settleMs = 200;

/** File systems whose changes the kernel sees only in part (statfs(2)): NFS, CIFS, SMB, SMB2, FUSE. */
const networkTypes = new Set([0x6969, 0xff534d42, 0x517b, 0xfe534d42, 0x65735546]);

/** Watches one directory, and with `recursive` every directory below it, also those made later. */
export class Watcher {
  onEvents: () => void = () => {};
  readonly #inotify: Inotify;
  readonly #folders = new Map<number, string>();
  /** Found in a new folder after its watch was set, and told: the kernel's event for them, if one comes, is a repeat. */
  readonly #told = new Set<string>();
  /** The last file of an upload that left its temporary name; its new one comes in the next event. */
  #uploaded: { cookie: number; replaces: boolean } | undefined;
  #events: FileEvent[] = [];
  #room: (() => void) | undefined;
  #closed = false;

  /** Starts watching. Throws `not_found`, `invalid_request`, and `rate_limited` when the kernel's limit is reached. */
  constructor(readonly options: WatchOptions) {
    checkWatchable(options);
    this.#inotify = openInotify();
    try {
      this.#watch(options.path, true);
      if (options.recursive) this.#addBelow(options.path, false);
    } catch (thrown) {
      this.#inotify.close();
      throw watchError(thrown, options.path);
    }
    void this.#pump();
  }

  /** The next event, oldest first. */
  shift(): FileEvent | undefined {
    const event = this.#events.shift();
    if (this.#events.length < maxWaiting) this.#room?.();
    return event;
  }

  /** All events of what has happened until now: what the kernel still holds is read first. */
  async drain(): Promise<FileEvent[]> {
    for (const until = performance.now() + settleMs; performance.now() < until; ) {
      const isRead = this.#closed || !this.#inotify.hasUnread;
      await new Promise(setImmediate); // in which what was read is handled
      if (isRead) break;
    }
    const events = this.#events;
    this.#events = [];
    this.#room?.();
    return events;
  }

  /** Stops watching. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#inotify.close();
    this.#room?.();
  }

  async #pump(): Promise<void> {
    try {
      for await (const batch of this.#inotify.batches()) {
        for (const event of batch) this.#handle(event);
        if (this.#events.length > 0) this.onEvents();
        if (this.#events.length >= maxWaiting)
          await new Promise<void>((resolve) => {
            this.#room = resolve;
          });
      }
    } catch (thrown) {
      if (!this.#closed) console.error(`watching ${this.options.path} failed`, thrown);
    }
  }

  #handle({ watch, mask, name, cookie }: InotifyEvent): void {
    if (mask & bit.overflow) {
      if (this.options.recursive) this.#addBelow(this.options.path, false); // folders made meanwhile are not missed
      return;
    }
    const folder = this.#folders.get(watch);
    if (folder === undefined) return;
    if (mask & bit.ignored) this.#folders.delete(watch);
    else if (isTemporary(name)) this.#uploaded = { cookie, replaces: replacesAnother(name) };
    else if (name && cookie !== 0 && cookie === this.#uploaded?.cookie) this.#tellUpload(join(folder, name));
    else if (name) this.#handleNamed(join(folder, name), mask);
    else if (folder === this.options.path && mask & (bit.removeSelf | bit.moveSelf))
      this.#tell(folder, mask & bit.removeSelf ? wire.EventType.REMOVE : wire.EventType.RENAME);
  }

  /**
   * An upload arrives under its name in one piece, yet watchers are told of what it means: a file written to, or one
   * made, given to its user and written, which clients of the E2B agent count.
   */
  #tellUpload(path: string): void {
    if (!this.#uploaded!.replaces) {
      if (!this.#told.delete(path)) this.#tell(path, wire.EventType.CREATE);
      this.#tell(path, wire.EventType.CHMOD);
    }
    this.#tell(path, wire.EventType.WRITE);
  }

  #handleNamed(path: string, mask: number): void {
    const isFolder = (mask & bit.isDir) !== 0;
    if (mask & (bit.create | bit.movedTo)) {
      if (!this.#told.delete(path)) this.#tell(path, wire.EventType.CREATE);
      if (isFolder && this.options.recursive) this.#addTree(path, (mask & bit.create) !== 0);
    }
    if (mask & bit.modify) this.#tell(path, wire.EventType.WRITE);
    if (mask & bit.attrib) this.#tell(path, wire.EventType.CHMOD);
    if (mask & (bit.remove | bit.movedFrom)) {
      this.#told.delete(path);
      this.#tell(path, mask & bit.remove ? wire.EventType.REMOVE : wire.EventType.RENAME);
      if (isFolder && mask & bit.movedFrom) this.#forgetTree(path);
    }
  }

  #tell(path: string, type: wire.EventType): void {
    const name = relative(this.options.path, path) || ".";
    const gone = type === wire.EventType.REMOVE || type === wire.EventType.RENAME;
    const entry = this.options.includeEntry && !gone ? entryIfThere(path) : undefined;
    this.#events.push({ name, type, ...(entry ? { entry } : {}) });
  }

  #watch(path: string, follow: boolean): void {
    this.#folders.set(this.#inotify.add(path, follow), path);
  }

  /** Watches a folder that appeared. What is already inside a newly made one was made since, and is told. */
  #addTree(path: string, isNew: boolean): void {
    try {
      this.#watch(path, false);
      this.#addBelow(path, isNew);
    } catch (thrown) {
      if (!isGone(thrown)) console.error(`cannot watch ${path}`, thrown);
    }
  }

  #addBelow(folder: string, isNew: boolean): void {
    for (const child of readdirSync(folder, { withFileTypes: true })) {
      if (isTemporary(child.name)) continue;
      const path = join(folder, child.name);
      if (isNew && !this.#told.has(path)) {
        this.#told.add(path);
        this.#tell(path, wire.EventType.CREATE);
      }
      if (child.isDirectory()) this.#addTree(path, isNew);
    }
  }

  #forgetTree(path: string): void {
    for (const [watch, folder] of this.#folders)
      if (folder === path || folder.startsWith(`${path}/`)) {
        this.#folders.delete(watch);
        this.#inotify.remove(watch);
      }
  }
}

function openInotify(): Inotify {
  try {
    return new Inotify();
  } catch (thrown) {
    throw watchError(thrown, "");
  }
}

function entryIfThere(path: string): Entry | undefined {
  try {
    return entryAt(path);
  } catch {
    return undefined;
  }
}

const isGone = (thrown: unknown) => ["ENOENT", "ENOTDIR", "ELOOP"].includes((thrown as { code: string }).code);

function checkWatchable({ path, allowNetworkMounts }: WatchOptions): void {
  try {
    if (!statSync(path).isDirectory())
      throw new WrennError("invalid_request", `path '${path}' is not a directory`, { remedy: "Watch its directory." });
    if (allowNetworkMounts || !networkTypes.has(statfsSync(realpathSync(path)).type)) return;
  } catch (thrown) {
    throw fileError(thrown, path);
  }
  throw new WrennError("invalid_request", `cannot watch path on network filesystem: ${path}`, {
    remedy: "Changes made elsewhere cannot be seen; set allow_network_mounts to watch local ones.",
  });
}

function watchError(thrown: unknown, path: string): WrennError {
  if (thrown instanceof SystemError && ["ENOSPC", "EMFILE"].includes(thrown.code))
    return new WrennError("rate_limited", `the kernel's limit of watches is reached: ${thrown.message}`, {
      remedy: "Remove watchers, or raise fs.inotify.max_user_watches and max_user_instances.",
      cause: thrown,
    });
  return fileError(thrown, path);
}
