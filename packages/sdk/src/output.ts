/** Bytes of one stream of a command, in the order they were written. */
export type OutputChunk = { stream: "stdout" | "stderr" | "pty"; bytes: Uint8Array };

/** Collects one stream of a command up to a limit and, where asked, hands it on as text while it arrives. */
export class Output {
  truncated = false;
  readonly #chunks: Uint8Array[] = [];
  readonly #onText: ((text: string) => unknown) | undefined;
  readonly #decoder = new TextDecoder();
  #room: number;

  constructor(limitBytes: number, onText: ((text: string) => unknown) | undefined) {
    this.#room = limitBytes;
    this.#onText = onText;
  }

  /** Takes the next bytes; a promise from the caller's callback is passed back so that reading can wait for it. */
  push(bytes: Uint8Array): unknown {
    if (bytes.byteLength > this.#room) this.truncated = true;
    if (this.#room > 0) this.#chunks.push(bytes.byteLength > this.#room ? bytes.subarray(0, this.#room) : bytes);
    this.#room = Math.max(0, this.#room - bytes.byteLength);
    if (!this.#onText) return undefined;
    const text = this.#decoder.decode(bytes, { stream: true });
    return text === "" ? undefined : this.#onText(text);
  }

  /** Hands on what a cut character left behind. */
  end(): unknown {
    const rest = this.#onText ? this.#decoder.decode() : "";
    return rest === "" ? undefined : this.#onText?.(rest);
  }

  /** Everything collected so far, as UTF-8 text. */
  get text(): string {
    const decoder = new TextDecoder();
    const parts = this.#chunks.map((chunk) => decoder.decode(chunk, { stream: true }));
    return parts.join("") + decoder.decode();
  }
}
