/** What is pushed here is read in its order, as it comes, by one reader. */
export class Queue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #isClosed = false;
  #wake = () => {};

  /** Adds an item; never waits, so that whoever tells of something is not held up by who reads of it. */
  push(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  /** Ends the reading, once all that was pushed is read. */
  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for (;;) {
      while (this.#items.length > 0) yield this.#items.shift()!;
      if (this.#isClosed) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
