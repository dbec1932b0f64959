import { paint } from "../output.ts";

/** What is written to; the status is shown where it is a terminal. */
export type Terminal = Pick<NodeJS.WriteStream, "write"> & { isTTY?: boolean };

/** How often the time in it is brought up to date: seconds are shown. */
const refreshMs = 1_000;
/** To the begin of the line, which is erased (ECMA-48, EL). */
const erase = "\r\x1b[2K";

/** The last line of a terminal, which says what is under way and for how long. Elsewhere it is not there. */
export class StatusLine implements Disposable {
  #text = "";
  #since = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(readonly out: Terminal) {}

  /** Shows `text`, with the seconds since then. */
  show(text: string): void {
    if (!this.out.isTTY) return;
    this.#text = text;
    this.#since = performance.now();
    this.#timer ??= setInterval(() => this.#draw(), refreshMs);
    this.#draw();
  }

  /** Shows `text` as it is, until the next. */
  tell(text: string): void {
    if (!this.out.isTTY) return;
    this.#text = text;
    this.#since = 0;
    this.#draw();
  }

  /** Writes a line that stays, above the status. */
  above(line: string): void {
    this.out.write(this.#text ? `${erase}${line}\n` : `${line}\n`);
    this.#draw();
  }

  /** Takes the status away. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#text) this.out.write(erase);
    this.#text = "";
  }

  #draw(): void {
    if (!this.#text) return;
    const seconds = Math.floor((performance.now() - this.#since) / 1000);
    const time = this.#since > 0 && seconds > 0 ? ` ${seconds} s` : "";
    this.out.write(erase + paint("dim", `  ${this.#text}${time}`, this.out as NodeJS.WriteStream));
  }
}
