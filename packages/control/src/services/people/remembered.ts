/** How long an entry is believed when nobody takes it back: as long as a database connection may be broken unnoticed. */
const believedMs = 5_000;
/** Entries remembered at once; beyond it the oldest are asked for again. */
const maxEntries = 10_000;

/** What was found for a secret's hash, for some seconds: without it every request would cost one more query. */
export class Remembered<T> {
  readonly #entries = new Map<string, { value: T; until: number }>();
  /** Counts the times everything was forgotten: what was asked for before may be out of date when it arrives. */
  #age = 0;

  /** The value of `hash`, from memory or by `load`; `undefined` is not remembered. */
  async get(hash: string, load: (hash: string) => Promise<T | undefined>): Promise<T | undefined> {
    const known = this.#entries.get(hash);
    if (known && known.until > Date.now()) return known.value;
    const age = this.#age;
    const value = await load(hash);
    this.#entries.delete(hash);
    if (value === undefined || age !== this.#age) return value;
    if (this.#entries.size >= maxEntries) this.#entries.delete(this.#entries.keys().next().value!);
    this.#entries.set(hash, { value, until: Date.now() + believedMs });
    return value;
  }

  /** Forgets everything. */
  clear(): void {
    this.#age++;
    this.#entries.clear();
  }
}
