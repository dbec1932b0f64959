/** Work that is done every so often, and never twice at once in this process. */
export class Rounds implements AsyncDisposable {
  readonly #timer: Timer;
  #running: Promise<void> | undefined;

  /** `failed` hears why a round broke off; the next one comes all the same. */
  constructor(
    everyMs: number,
    readonly work: () => Promise<void>,
    readonly failed: (err: unknown) => void,
  ) {
    this.#timer = setInterval(() => void this.run(), everyMs);
    this.#timer.unref();
  }

  /** Does a round now; calls meanwhile share it. */
  run(): Promise<void> {
    this.#running ??= this.work()
      .catch(this.failed)
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }

  /** Ends the rounds, once the one under way is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }
}
