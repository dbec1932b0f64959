/**
 * A first run of test files on a host whose nested guests may freeze. It passes the output on, and marks failures as of
 * the first try: what counts is how the second one, of the files that failed, ends.
 */
export class FirstTry {
  readonly #failed = new Set<string>();
  #file: string | undefined;
  #rest = "";
  readonly #decoder = new TextDecoder();

  constructor(readonly print: (text: string) => void) {}

  /** The files in which something failed, in their order. */
  get failed(): string[] {
    return [...this.#failed];
  }

  /** Takes the next piece of the runner's output. */
  take(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) this.print(`${this.#marked(line)}\n`);
  }

  /** Prints what came without the end of its line. */
  end(): void {
    if (this.#rest) this.print(`${this.#marked(this.#rest)}\n`);
    this.#rest = "";
  }

  #marked(line: string): string {
    const file = /^(lab\/tests\/[\w.-]+\.test\.ts):$/.exec(line)?.[1];
    if (file) this.#file = `./${file}`;
    // The runner repeats failures at its end, when the last file is long over.
    if (/^\d+ tests? failed:$/.test(line)) this.#file = undefined;
    if (line.startsWith("(fail)") && this.#file) this.#failed.add(this.#file);
    return line
      .replace(/^\(fail\)/, "(failed at the first try)")
      .replace(/^(\s*[1-9]\d*) fail$/, "$1 failed at the first try");
  }
}
