import { untrack } from "svelte";
import type { IconName } from "#lib/ui/icons.ts";

/** Something the palette can do. */
export type Command = { id: string; title: string; group: string; icon?: IconName; keys?: string; run: () => unknown };

/** The command palette: what it offers depends on the page. */
class Palette {
  open = $state(false);
  helpOpen = $state(false);
  #sets = $state.raw<readonly (readonly Command[])[]>([]);

  /** Everything on offer now. */
  get commands(): Command[] {
    return this.#sets.flat();
  }

  /** Offers commands until the function that comes back is called: for an `$effect` of a page. */
  offer(commands: readonly Command[]): () => void {
    this.#sets = [commands, ...untrack(() => this.#sets)];
    return () => {
      this.#sets = this.#sets.filter((set) => set !== commands);
    };
  }
}

export const palette = new Palette();
