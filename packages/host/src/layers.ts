import { rm, stat } from "node:fs/promises";
import { randomId } from "@wrenn/contract";
import type { BaseDisk, Disk, Disks } from "./drivers/ports.ts";
import type { Journal } from "./journal.ts";
import type { Paths } from "./paths.ts";
import type { Templates } from "./templates.ts";

/**
 * The disk layers of all sandboxes and snapshots: a forest that grows from the templates' disks. A layer that another
 * lies on is never written to. One is removed when no sandbox, snapshot or pooled machine stands on it any more.
 */
export class Layers {
  /** Layers of machines that no sandbox has yet. */
  readonly #pinned = new Set<string>();

  constructor(
    readonly disks: Disks,
    readonly templates: Templates,
    readonly journal: Journal,
    readonly paths: Paths,
  ) {}

  /** Names a new layer in the journal, before its file exists. It stays until `collect` finds nobody who stands on it. */
  reserve(templateKey: string, parent: string | undefined): string {
    const id = randomId();
    this.journal.layers.put({ id, parent, templateKey });
    return id;
  }

  /** Makes the file of a reserved layer, empty. */
  async create(id: string): Promise<Disk> {
    const { parent, templateKey } = this.journal.layers.get(id)!;
    return this.disks.create(await this.#base(parent, templateKey), this.paths.layer(id));
  }

  /** Bytes that a layer and those below it occupy, down to the template's. */
  async usedBytes(id: string): Promise<number> {
    let sum = 0;
    for (let at: string | undefined = id; at !== undefined; at = this.journal.layers.get(at)?.parent)
      sum += await this.#ownBytes(this.paths.layer(at)).catch(() => 0);
    return sum;
  }

  /** Opens a layer. Throws `not_found`. */
  open(id: string): Promise<Disk> {
    return this.disks.open(this.paths.layer(id));
  }

  /** Keeps a layer for a machine of the pool. */
  pin(id: string): void {
    this.#pinned.add(id);
  }

  /** Ends `pin`: by now a sandbox's row names the layer, or nobody wants it. */
  unpin(id: string): void {
    this.#pinned.delete(id);
  }

  /** How many layers lie between this one and the template's disk. */
  depth(id: string): number {
    const parent = this.journal.layers.get(id)?.parent;
    return parent === undefined ? 0 : 1 + this.depth(parent);
  }

  /** Puts a paused sandbox's layer directly on the template's disk, unless another layer or snapshot shares it. */
  async flatten(id: string, sharers: number): Promise<void> {
    const row = this.journal.layers.get(id)!;
    if (sharers > 1 || this.journal.layers.all().some((layer) => layer.parent === id)) return;
    await this.disks.flatten(this.paths.layer(id), await this.#base(undefined, row.templateKey));
    this.journal.layers.put({ ...row, parent: undefined });
    await this.collect();
  }

  /** Has a layer that was brought from another host lie on what is below it here, which has the same content. */
  async rebase(id: string): Promise<void> {
    const { parent, templateKey } = this.journal.layers.get(id)!;
    await this.disks.rebase(this.paths.layer(id), await this.#base(parent, templateKey));
  }

  /** Removes every layer that nobody stands on: row last, so that a crash leaves something to collect again. */
  async collect(): Promise<void> {
    const rows = new Map(this.journal.layers.all().map((row) => [row.id, row]));
    const needed = new Set<string>();
    const need = (id: string | undefined): void => {
      for (let at = id; at !== undefined && !needed.has(at); at = rows.get(at)?.parent) needed.add(at);
    };
    for (const { layer, nextLayer } of this.journal.sandboxes.all()) [layer, nextLayer].forEach(need);
    for (const { layer } of this.journal.snapshots.all()) need(layer);
    this.#pinned.forEach(need);
    const unneeded = [...rows.keys()].filter((id) => !needed.has(id));
    for (const id of unneeded) {
      await rm(this.paths.layer(id), { force: true });
      this.journal.layers.remove(id);
    }
  }

  async #ownBytes(path: string): Promise<number> {
    return this.disks.ownBytes?.(path) ?? (await stat(path)).blocks * 512;
  }

  async #base(parent: string | undefined, templateKey: string): Promise<BaseDisk> {
    if (parent !== undefined) return { path: this.paths.layer(parent), format: this.disks.gives };
    return (await this.templates.byKey(templateKey)).frozen.disk;
  }
}
