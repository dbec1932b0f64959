import { until } from "./processes.ts";

/** What a terminal has shown so far, and waiting for what it is to show. */
export class Screen {
  text = "";
  readonly #decoder = new TextDecoder();

  /** Takes the terminal's next bytes. */
  readonly take = (bytes: Uint8Array): void => {
    this.text += this.#decoder.decode(bytes, { stream: true });
  };

  /** Waits until `pattern` stands in what came after the last match, and gives it. */
  async shows(pattern: RegExp): Promise<RegExpExecArray> {
    const found = await until(`${pattern} on the terminal`, () => pattern.exec(this.text)).catch((thrown: Error) => {
      throw new Error(`${thrown.message}; it shows ${JSON.stringify(this.text.slice(-2000))}`);
    });
    this.text = this.text.slice(found.index + found[0].length);
    return found;
  }
}
