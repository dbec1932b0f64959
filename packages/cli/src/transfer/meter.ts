import { bytes, paint } from "../output.ts";

/** A copy shorter than this needs no sign of life. */
const quietMs = 2_000;
const everyMs = 200;

/** Shows on standard error how much has gone through, once a copy takes longer than a moment and somebody watches. */
export class Meter implements Disposable {
  readonly #began = performance.now();
  #count = 0;
  #shownAt = 0;

  constructor(readonly title: string) {}

  /** Counts what went through. */
  add(count: number): void {
    this.#count += count;
    const now = performance.now();
    if (!process.stderr.isTTY || now - this.#began < quietMs || now - this.#shownAt < everyMs) return;
    this.#shownAt = now;
    const perSecond = this.#count / ((now - this.#began) / 1000);
    const line = `${this.title}: ${bytes(this.#count)}, ${bytes(perSecond)}/s`;
    process.stderr.write(`\r\u001b[2K${paint("dim", line, process.stderr)}`);
  }

  /** Takes the line away: what follows is the result. */
  [Symbol.dispose](): void {
    if (this.#shownAt > 0) process.stderr.write("\r\u001b[2K");
  }
}
