import type { BuildInfo, BuildLogLine } from "wrenn";
import { paint, printable } from "../output.ts";
import { StatusLine, type Terminal } from "./status-line.ts";

/** What a quiet build shows of a step that failed: enough for an error and what led to it. */
const lastLines = 20;

/** Prints a build as it goes: instructions with their number, what they print, how long they took. */
export class BuildProgress implements Disposable {
  #total = 0;
  readonly #status: StatusLine;
  /** What the step under way printed last, where that is not shown. */
  #unseen: string[] = [];

  constructor(
    readonly isQuiet: boolean,
    readonly out: Terminal = process.stderr,
  ) {
    this.#status = new StatusLine(out);
    this.#status.show("waiting for its turn");
  }

  /** Whether it is not known yet how many steps there are. */
  get isUncounted(): boolean {
    return this.#total === 0;
  }

  /** How many steps there are, once that is known. */
  expect(total: number): void {
    this.#total = total;
  }

  /** One line of the log. */
  line({ stream, step, message }: BuildLogLine): void {
    const text = printable(message);
    if (stream === "step" || stream === "cached") this.#step(step, text, stream === "cached");
    else if (stream === "done") this.#done(step, text);
    else if (stream === "warn") this.#say(`${this.#paint("yellow", "warning:")} ${text}`);
    else if (stream === "info") this.#say(this.#paint("dim", text));
    else if (stream === "error") this.#failed();
    else if (this.isQuiet) this.#unseen = [...this.#unseen.slice(1 - lastLines), text];
    else this.#say(`  ${text}`);
  }

  [Symbol.dispose](): void {
    this.#status[Symbol.dispose]();
  }

  #step(step: number, text: string, isCached: boolean): void {
    this.#unseen = [];
    const head = `${this.#paint("cyan", this.#place(step))} ${text}`;
    this.#say(isCached ? `${head} ${this.#paint("dim", "(cached)")}` : head);
    this.#status.show(isCached ? "working" : "running");
  }

  #done(step: number, text: string): void {
    this.#say(this.#paint("dim", `${" ".repeat(this.#place(step).length)} ${text}`));
    this.#status.show("working");
  }

  #failed(): void {
    for (const text of this.#unseen) this.#say(`  ${text}`);
    this.#unseen = [];
  }

  #place(step: number): string {
    return this.#total > 0 ? `[${step}/${this.#total}]` : `[${step}]`;
  }

  #say(line: string): void {
    this.#status.above(line);
  }

  #paint(style: "cyan" | "dim" | "yellow", text: string): string {
    return paint(style, text, this.out as NodeJS.WriteStream);
  }
}

/** How long a build took, as people say it. */
export function took({ createdAt, completedAt }: BuildInfo): string {
  const seconds = ((completedAt ?? new Date()).getTime() - createdAt.getTime()) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
