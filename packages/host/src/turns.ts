/** Lets so many work at once and the others wait in the order they came. */
export class Turns {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(readonly atOnce: number) {
    this.#free = atOnce;
  }

  /** How many work or wait. */
  get busy(): number {
    return this.atOnce - this.#free + this.#waiting.length;
  }

  /** A turn; dispose it when the work is done. */
  async take(): Promise<Disposable> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.#turn();
  }

  /** A turn if one is free at this moment. */
  takeFree(): Disposable | undefined {
    if (this.#free === 0) return undefined;
    this.#free--;
    return this.#turn();
  }

  #turn(): Disposable {
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        const next = this.#waiting.shift();
        if (next) next();
        else this.#free++;
      },
    };
  }
}
