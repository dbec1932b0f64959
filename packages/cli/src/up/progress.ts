import { paint } from "../output.ts";

/** Prints what happens, one line a step, on standard error: standard output belongs to the result. */
export class Progress {
  readonly #live = process.stderr.isTTY === true;

  /** Runs a step; says that it began where the line can be written over, and how long it took. */
  async step<T>(title: string, run: () => Promise<T>): Promise<T> {
    const started = performance.now();
    if (this.#live) process.stderr.write(`${paint("dim", `· ${title} ...`, process.stderr)}`);
    try {
      const value = await run();
      const took = paint("dim", duration(performance.now() - started), process.stderr);
      this.#line(`${paint("green", "✓", process.stderr)} ${title} ${took}`);
      return value;
    } catch (thrown) {
      this.#line(`${paint("red", "✗", process.stderr)} ${title}`);
      throw thrown;
    }
  }

  /** Something the reader should know that is no step. */
  note(text: string): void {
    this.#line(`${paint("yellow", "!", process.stderr)} ${text}`);
  }

  #line(text: string): void {
    process.stderr.write(`${this.#live ? "\r\u001b[2K" : ""}${text}\n`);
  }
}

/** "35 ms", "1.2 s": as many digits as a reader uses. */
export const duration = (ms: number): string => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
