import { SvelteMap, SvelteSet } from "svelte/reactivity";
import type { EntryInfo, Sandbox, WatchHandle } from "wrenn";
import { bad } from "#lib/ui/toasts.svelte.ts";
import { folderOf, within } from "./kinds.ts";

/** A burst of changes, such as an unpacked archive, is one. */
const settleMs = 300;

/** The folders of a sandbox as far as somebody has looked into them. */
export class Tree {
  readonly children = new SvelteMap<string, readonly EntryInfo[]>();
  readonly expanded = new SvelteSet<string>();
  readonly hidden = new SvelteSet<string>();
  error = $state.raw<unknown>(undefined);
  #watch: WatchHandle | undefined;
  #watched: string | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly sandbox: Sandbox) {}

  /** Reads a folder. */
  async load(folder: string): Promise<void> {
    try {
      const entries = await this.sandbox.files.list(folder);
      this.children.set(folder, sorted(entries));
      this.error = undefined;
    } catch (thrown) {
      if (this.children.has(folder)) bad(thrown);
      else this.error = thrown;
    }
  }

  /** Opens or closes a folder. */
  async toggle(folder: string): Promise<void> {
    if (this.expanded.delete(folder)) return;
    this.expanded.add(folder);
    await this.load(folder);
    void this.watch(folder);
  }

  /** Opens every folder above a path. */
  async reveal(path: string, root: string): Promise<void> {
    const missing: string[] = [];
    for (let folder = folderOf(path); folder.length > root.length; folder = folderOf(folder)) missing.unshift(folder);
    for (const folder of missing) {
      if (this.expanded.has(folder)) continue;
      this.expanded.add(folder);
      await this.load(folder);
    }
  }

  /** Follows the changes of one folder: the one looked at last, for a stream is not free. */
  async watch(folder: string): Promise<void> {
    if (this.#watched === folder) return;
    this.#watched = folder;
    this.#watch?.stop();
    this.#watch = undefined;
    const handle = await this.sandbox.files.watchDir(folder, () => this.#changed(folder)).catch(() => undefined);
    if (this.#watched === folder) this.#watch = handle;
    else handle?.stop();
  }

  /** Entries of a folder, without those that are about to be deleted. */
  entries(folder: string): readonly EntryInfo[] | undefined {
    return this.children.get(folder)?.filter((entry) => !this.hidden.has(entry.path));
  }

  /** Moves an entry and what is known below it. */
  async rename(entry: EntryInfo, name: string): Promise<string> {
    const to = within(folderOf(entry.path), name);
    if (await this.sandbox.files.exists(to)) throw new Error(`${to} exists already`);
    await this.sandbox.files.rename(entry.path, to);
    this.children.delete(entry.path);
    this.expanded.delete(entry.path);
    await this.load(folderOf(entry.path));
    return to;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#watched = undefined;
    this.#watch?.stop();
  }

  #changed(folder: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.load(folder), settleMs);
  }
}

const isFolder = ({ type }: EntryInfo): boolean => type === "directory";

const sorted = (entries: readonly EntryInfo[]): EntryInfo[] =>
  [...entries].sort((a, b) => Number(isFolder(b)) - Number(isFolder(a)) || a.name.localeCompare(b.name));
