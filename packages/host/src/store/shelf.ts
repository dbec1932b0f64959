import { WrennError } from "@wrenn/contract";
import type { StoredFile } from "./files.ts";
import { Leases } from "./leases.ts";
import type { Vault } from "./vault.ts";

/** Layout of what lies in the store; a higher one was written by a newer agent. */
const layout = 1;

/** A template that nobody refers to stays this long: the next sandbox of it need not send it again. */
const keptMs = 7 * 86_400_000;

/** Something whole in the store: facts, and the files whose chunks are its own. */
export type Parcel<F> = { readonly facts: F; readonly files: readonly StoredFile[] };

/** What parcels are of. A template is referred to by others; the rest stand for themselves. */
export type Kind = "sandboxes" | "snapshots" | "templates";

const kinds: readonly Kind[] = ["sandboxes", "snapshots", "templates"];

/** The parcels of one vault, and what becomes of chunks that none of them names any more. */
export class Shelf {
  readonly leases: Leases;

  constructor(readonly vault: Vault) {
    this.leases = new Leases(vault.store, vault.name);
  }

  /** Whether a parcel is there, whole. */
  has(kind: Kind, id: string, signal?: AbortSignal): Promise<boolean> {
    return this.vault.store.has(this.#key(kind, id), signal);
  }

  /** Writes a parcel down, whose chunks are all there. */
  async put<F>(kind: Kind, id: string, parcel: Parcel<F>, signal?: AbortSignal): Promise<void> {
    const text = JSON.stringify({ layout, ...parcel });
    await this.vault.write(this.#key(kind, id), new TextEncoder().encode(text), signal);
  }

  /** Reads a parcel. Throws `not_found`, `conflict` for a newer layout, `internal_error` for a damaged one. */
  async get<F>(kind: Kind, id: string, signal?: AbortSignal): Promise<Parcel<F>> {
    const key = this.#key(kind, id);
    const bytes = await this.vault.read(key, signal);
    if (bytes === undefined)
      throw new WrennError("not_found", `there is no object ${key} in ${this.vault.store.name}`, {
        remedy: "Check that WRENN_STORE names the store that it was sent to.",
      });
    const parcel = JSON.parse(new TextDecoder().decode(bytes)) as Parcel<F> & { layout: number };
    if (parcel.layout <= layout) return parcel;
    throw new WrennError("conflict", `the object ${key} was written by a newer wrenn-agent`, {
      remedy: "Upgrade wrenn-agent on this host, or resume on another.",
    });
  }

  /** Removes a parcel; its chunks go with the next sweep. Absent is fine. */
  async remove(kind: Kind, id: string): Promise<void> {
    await this.vault.store.remove(this.#key(kind, id));
  }

  /** Notes that `by` needs the template `id`, so that it stays. */
  async refer(id: string, by: string): Promise<void> {
    await this.vault.store.put(this.#reference(id, by), new Uint8Array([1]));
  }

  /** Ends `refer`. */
  async unrefer(id: string, by: string): Promise<void> {
    await this.vault.store.remove(this.#reference(id, by));
  }

  /** Removes templates that nobody has referred to for long, and chunks that no parcel names. Not while somebody sends. */
  sweep(): Promise<boolean> {
    return this.leases.sweeping(async (lease) => {
      await this.#sweepTemplates();
      const needed = await this.#needed();
      for await (const { key } of this.vault.store.list(`${this.vault.name}/chunks/`)) {
        lease.check();
        if (!needed.has(key.slice(key.lastIndexOf("/") + 1))) await this.vault.store.remove(key);
      }
    });
  }

  async #sweepTemplates(): Promise<void> {
    const { store, name } = this.vault;
    const referred = new Set<string>();
    for await (const { key } of store.list(`${name}/references/`)) referred.add(key.split("/").at(-2)!);
    for await (const { key, modifiedAtMs } of store.list(`${name}/templates/`))
      if (!referred.has(key.split("/").at(-1)!) && Date.now() - modifiedAtMs > keptMs) await store.remove(key);
  }

  async #needed(): Promise<Set<string>> {
    const names = new Set<string>();
    for (const kind of kinds)
      for await (const { key } of this.vault.store.list(`${this.vault.name}/${kind}/`)) {
        const parcel = await this.get(kind, key.slice(key.lastIndexOf("/") + 1)).catch((thrown) => {
          if (WrennError.from(thrown).code === "not_found") return undefined; // removed since
          throw thrown; // what cannot be read may need anything
        });
        for (const { chunks } of parcel?.files ?? []) for (const [, chunk] of chunks) names.add(chunk);
      }
    return names;
  }

  #key(kind: Kind, id: string): string {
    return `${this.vault.name}/${kind}/${id}`;
  }

  #reference(id: string, by: string): string {
    return `${this.vault.name}/references/${id}/${by}`;
  }
}
