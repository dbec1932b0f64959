/** Who looks at a team, or as an administrator at all of them, and wants to know when to look again. */
export type Onlooker = { team: string | "all"; heard(team: string, resource: string): void };

/**
 * Tells onlookers that something of a kind was done in a team: not what, and not by whom. That stands in the audit log,
 * for those who may read it.
 */
export class Deeds {
  readonly #onlookers = new Set<Onlooker>();

  /** Calls `heard` from now on; answers how to stop. */
  watch(onlooker: Onlooker): () => void {
    this.#onlookers.add(onlooker);
    return () => this.#onlookers.delete(onlooker);
  }

  /** Something was done. */
  tell(team: string, resource: string): void {
    for (const one of this.#onlookers) if (one.team === team || one.team === "all") one.heard(team, resource);
  }
}
