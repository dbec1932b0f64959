import type { BuildStore, LogLine } from "../../store/builds/queue.ts";
import type { LogStream } from "../../store/schema/index.ts";

/** Followers see a line this late at most; each write costs a transaction. */
const flushMs = 200;
/** Longer lines are cut: a log is for reading. */
const maxLineLength = 8 * 1024;
/** A secret shorter than this is a word that may stand anywhere. */
const minHiddenLength = 6;
/** Lines of output that one build keeps; more is a program that went wild. */
const maxLines = 20_000;

/** The log of one build: whole lines, written down a few times a second, in order. */
export class BuildLog implements AsyncDisposable {
  #lines: LogLine[] = [];
  #count = 0;
  #step = 0;
  readonly #partial = { stdout: "", stderr: "" };
  readonly #decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  readonly #timer: Timer;
  #hidden: readonly string[] = [];
  #writing: Promise<void> = Promise.resolve();

  constructor(
    readonly store: BuildStore,
    readonly build: string,
    readonly warn: (cause: unknown) => void,
  ) {
    this.#timer = setInterval(() => void this.flush(), flushMs);
  }

  /** These texts are not to be read in what commands print. Short ones would make every line unreadable. */
  hide(texts: readonly string[]): void {
    const lines = texts.flatMap((text) => text.split("\n")).map((line) => line.trim());
    this.#hidden = lines.filter((line) => line.length >= minHiddenLength);
  }

  /** What follows belongs to this step. */
  at(step: number): void {
    this.#step = step;
  }

  /** One line of ours. */
  say(stream: Exclude<LogStream, "stdout" | "stderr">, message: string): void {
    this.#add(stream, message);
  }

  /** What a command prints. */
  hear(stream: "stdout" | "stderr", bytes: Uint8Array): void {
    const text = this.#partial[stream] + this.#decoders[stream].decode(bytes, { stream: true });
    const lines = text.split("\n");
    this.#partial[stream] = lines.pop()!.slice(-maxLineLength);
    for (const line of lines) this.#print(stream, line);
  }

  /** Takes what has no line feed yet as a line. */
  endLines(): void {
    for (const stream of ["stdout", "stderr"] as const) {
      if (this.#partial[stream]) this.#print(stream, this.#partial[stream]);
      this.#partial[stream] = "";
    }
  }

  /** Writes down what is there. */
  flush(): Promise<void> {
    const lines = this.#lines;
    this.#lines = [];
    this.#writing = this.#writing.then(() => this.store.log(this.build, lines)).catch(this.warn);
    return this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.endLines();
    await this.flush();
  }

  /** Programs draw progress by returning to the line's begin: what stands there last is the line. */
  #print(stream: "stdout" | "stderr", line: string): void {
    if (++this.#count > maxLines) {
      if (this.#count === maxLines + 1) this.#add("warn", `more than ${maxLines} lines: the rest is not kept`);
      return;
    }
    const text = this.#hidden.reduce((all, secret) => all.replaceAll(secret, "***"), line.replace(/\r+$/, ""));
    this.#add(
      stream,
      text
        .slice(text.lastIndexOf("\r") + 1)
        .slice(0, maxLineLength)
        .replaceAll("\0", ""),
    );
  }

  #add(stream: LogStream, message: string): void {
    this.#lines.push({ at: new Date(), step: this.#step, stream, message });
  }
}
