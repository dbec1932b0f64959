import type { Load } from "wrenn";
import { whileSeen } from "#lib/api/seen.ts";
import { session } from "#lib/api/session.svelte.ts";

/** Points of a small chart: five minutes. */
const keptPoints = 30;
/** The server tells of so many at once, which is more than a screen has rows. */
const most = 100;
/** Who scrolls asks for what they stop at. */
const settleMs = 250;

/** Loads of the sandboxes that a list shows now, over one stream that follows the scrolling. */
export class Loads {
  /** By id, oldest point first. */
  all = $state.raw<ReadonlyMap<string, readonly Load[]>>(new Map());
  #stop = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asked = "";

  /** Follows these from now on; what was heard of others is forgotten. */
  watch(ids: readonly string[]): void {
    const wanted = ids.slice(0, most);
    if (wanted.join() === this.#asked) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#asked = wanted.join();
      this.#stop();
      this.#stop = wanted.length > 0 ? whileSeen((signal) => void this.#follow(wanted, signal)) : () => {};
    }, settleMs);
  }

  /** Ends the stream. */
  close(): void {
    clearTimeout(this.#timer);
    this.#stop();
  }

  async #follow(ids: readonly string[], signal: AbortSignal): Promise<void> {
    const wanted = new Set(ids);
    let isFirst = true;
    try {
      for await (const told of session.client.loads(ids, signal)) {
        const next = new Map([...this.all].filter(([id]) => wanted.has(id)));
        for (const [id, points] of told)
          next.set(id, [...(isFirst ? [] : (next.get(id) ?? [])), ...points].slice(-keptPoints));
        isFirst = false;
        this.all = next;
      }
    } catch {
      // The list says itself what is wrong with the server.
    }
  }
}
