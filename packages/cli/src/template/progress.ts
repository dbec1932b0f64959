import type { BuildInfo, BuildLogLine } from "wrenn";
import { paint, printable } from "../output.ts";

/** Prints a build as it goes: instructions with their number, what they print, how long they took. */
export class BuildProgress {
  #total = 0;

  constructor(readonly isQuiet: boolean) {}

  /** How many steps there are, once that is known. */
  expect(total: number): void {
    this.#total = total;
  }

  /** One line of the log. */
  line({ stream, step, message }: BuildLogLine): void {
    const text = printable(message);
    if (stream === "step") this.#say(`${paint("cyan", this.#place(step), process.stderr)} ${text}`);
    else if (stream === "cached")
      this.#say(`${paint("cyan", this.#place(step), process.stderr)} ${text} ${dim("(cached)")}`);
    else if (stream === "done") this.#say(dim(`${" ".repeat(this.#place(step).length)} ${text}`));
    else if (stream === "warn") this.#say(`${paint("yellow", "warning:", process.stderr)} ${text}`);
    else if (stream === "info") this.#say(dim(text));
    else if (stream !== "error" && !this.isQuiet) this.#say(`  ${text}`);
  }

  #place(step: number): string {
    return this.#total > 0 ? `[${step}/${this.#total}]` : `[${step}]`;
  }

  #say(line: string): void {
    process.stderr.write(`${line}\n`);
  }
}

const dim = (text: string): string => paint("dim", text, process.stderr);

/** How long a build took, as people say it. */
export function took({ createdAt, completedAt }: BuildInfo): string {
  const seconds = ((completedAt ?? new Date()).getTime() - createdAt.getTime()) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
