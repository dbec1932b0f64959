/** What waits for the next run. */
type Waiting<I, O> = { input: I; resolve: (output: O) => void; reject: (thrown: unknown) => void };

/** More in one statement gain nothing, and make those that come first wait for the last. */
const most = 128;

/**
 * Work that costs nearly the same for one as for many: what is asked for while a run is under way shares the next one.
 * Whoever comes alone waits for nobody. A run that fails is repeated for each by itself, so that each has its own error.
 */
export class Batch<I, O> {
  #waiting: Waiting<I, O>[] = [];
  #isRunning = false;

  /** `run` answers one output for each input, in their order. */
  constructor(readonly run: (inputs: readonly I[]) => Promise<readonly O[]>) {}

  /** The output for `input`, from a run that began after this was asked. */
  ask(input: I): Promise<O> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ input, resolve, reject });
      if (!this.#isRunning) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0) await this.#once(this.#waiting.splice(0, most));
    this.#isRunning = false;
  }

  async #once(all: readonly Waiting<I, O>[]): Promise<void> {
    try {
      const outputs = await this.run(all.map(({ input }) => input));
      for (const [at, { resolve }] of all.entries()) resolve(outputs[at]!);
    } catch (thrown) {
      if (all.length === 1) return all[0]!.reject(thrown);
      for (const one of all) await this.#once([one]);
    }
  }
}
