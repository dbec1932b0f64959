type Held = { readonly leave: Set<() => void>; count: number; readonly released: PromiseWithResolvers<void> };

/** Who reads which snapshot at the moment: one that is being started from is not removed under its reader. */
export class Holds {
  readonly #held = new Map<string, Held>();

  /** Keeps `id` until what it gives is disposed. `leave` is called when somebody waits for that: a long reader may end early. */
  hold(id: string, leave: () => void = () => {}): Disposable {
    const held = this.#held.get(id) ?? { leave: new Set(), count: 0, released: Promise.withResolvers<void>() };
    held.count++;
    held.leave.add(leave);
    this.#held.set(id, held);
    return {
      [Symbol.dispose]: () => {
        held.leave.delete(leave);
        if (--held.count > 0) return;
        this.#held.delete(id);
        held.released.resolve();
      },
    };
  }

  /** Settles when nobody holds `id`. What the caller does before its next `await`, nobody else comes before. */
  async idle(id: string): Promise<void> {
    for (let held = this.#held.get(id); held; held = this.#held.get(id)) {
      for (const leave of held.leave) leave();
      await held.released.promise;
    }
  }
}
