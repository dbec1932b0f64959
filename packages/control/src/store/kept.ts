import type { SandboxId } from "@wrenn/contract";
import type { SandboxRow } from "./schema/index.ts";

/** Some pages of lists that are asked for again and again, as dashboards and pollers do; 2 KiB each. */
const most = 4_000;

/** A row, and which version of it that is. */
export type Versioned = { row: SandboxRow; version: string };
/** Which version of a row there is. */
export type Head = { id: SandboxId; version: string };

/**
 * Rows that were read lately, by their version in the database: a page of a hundred rows that changed little is a hundred
 * short texts. The database is asked for the versions each time, so that nothing here is older than they are.
 */
export class KeptRows {
  readonly #rows = new Map<SandboxId, Versioned>();

  /** The rows of these heads, in their order; `read` answers those that are not kept as they are. */
  async rows(
    heads: readonly Head[],
    read: (ids: readonly SandboxId[]) => Promise<readonly Versioned[]>,
  ): Promise<SandboxRow[]> {
    const found = heads.map((head) => this.#find(head));
    const missing = heads.filter((_, at) => !found[at]).map(({ id }) => id);
    if (missing.length === 0) return found as SandboxRow[];
    const fresh = new Map((await read(missing)).map((one) => [one.row.id, one]));
    for (const one of fresh.values()) this.#keep(one);
    return heads.flatMap(({ id }, at) => found[at] ?? fresh.get(id)?.row ?? []);
  }

  #find({ id, version }: Head): SandboxRow | undefined {
    const kept = this.#rows.get(id);
    return kept?.version === version ? kept.row : undefined;
  }

  #keep(one: Versioned): void {
    const { id } = one.row;
    this.#rows.delete(id); // so that it is the newest
    this.#rows.set(id, one);
    if (this.#rows.size > most) this.#rows.delete(this.#rows.keys().next().value!);
  }
}
