/** Something that is read from the server, and read again when it has changed. */
export class Loaded<T> {
  value = $state.raw<T | undefined>(undefined);
  error = $state.raw<unknown>(undefined);
  #turn = 0;

  constructor(readonly read: () => Promise<T>) {
    void this.load();
  }

  /** Reads anew. An older answer that comes later is dropped. */
  async load(): Promise<void> {
    const turn = ++this.#turn;
    try {
      const value = await this.read();
      if (turn !== this.#turn) return;
      this.value = value;
      this.error = undefined;
    } catch (thrown) {
      if (turn === this.#turn) this.error = thrown;
    }
  }
}
