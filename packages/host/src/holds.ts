/** Who reads which snapshot at the moment: one that is being started from is not removed under its reader. */
export class Holds {
  readonly #held = new Map<string, { count: number; released: PromiseWithResolvers<void> }>();

  /** Keeps `id` until what it gives is disposed. */
  hold(id: string): Disposable {
    const held = this.#held.get(id) ?? { count: 0, released: Promise.withResolvers<void>() };
    held.count++;
    this.#held.set(id, held);
    return {
      [Symbol.dispose]: () => {
        if (--held.count > 0) return;
        this.#held.delete(id);
        held.released.resolve();
      },
    };
  }

  /** Settles when nobody holds `id`. What the caller does before its next `await`, nobody else comes before. */
  async idle(id: string): Promise<void> {
    for (let held = this.#held.get(id); held; held = this.#held.get(id)) await held.released.promise;
  }
}
