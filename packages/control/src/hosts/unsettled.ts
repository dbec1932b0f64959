import type { SandboxStore } from "../store/sandboxes.ts";
import type { SandboxRow } from "../store/schema/index.ts";

/** A row, and for how long it has been as it is. */
export type Aged = { readonly row: SandboxRow; readonly ageMs: number };

/**
 * The rows of every host that some action is, or was, to bring into another state. All hosts' are read at once, at most
 * every `freshMs`: a thousand hosts must not be a thousand queries. What is done to a row is fenced by what was read.
 */
export class Unsettled {
  #byHost: Promise<ReadonlyMap<string, readonly Aged[]>> | undefined;
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly store: Pick<SandboxStore, "unsettled">,
    readonly freshMs: number,
  ) {}

  /** Those of one host. */
  async on(host: string): Promise<readonly Aged[]> {
    if (!this.#byHost || performance.now() - this.#readAt > this.freshMs) {
      this.#readAt = performance.now();
      this.#byHost = this.#read();
      this.#byHost.catch(() => {
        this.#byHost = undefined; // whoever asked is told; the next one reads anew
      });
    }
    return (await this.#byHost).get(host) ?? [];
  }

  async #read(): Promise<ReadonlyMap<string, readonly Aged[]>> {
    return Map.groupBy(await this.store.unsettled(), ({ row }) => row.hostId);
  }
}
