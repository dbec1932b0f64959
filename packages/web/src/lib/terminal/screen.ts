import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { WebglAddon } from "@xterm/addon-webgl";
import { type ITheme, Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { isAnswer } from "./answers.ts";

/** Lines that can be scrolled back to. */
const scrollback = 20_000;

const readingName = "wrenn.terminal.read";

/** Whether what a terminal shows is text for screen readers too; drawing it twice costs time, so it is a choice. */
export const readsAloud = (): boolean => localStorage.getItem(readingName) === "yes";

/** Makes that choice, for terminals opened from now on. */
export const readAloud = (on: boolean): void =>
  on ? localStorage.setItem(readingName, "yes") : localStorage.removeItem(readingName);

/** What the terminal's keys and output lead to. */
export type ScreenEvents = {
  type(text: string): void;
  binary(binary: string): void;
  resize(size: { cols: number; rows: number }): void;
  title(title: string): void;
  /** A key that is the dashboard's; true keeps it from the shell. */
  key(event: KeyboardEvent): boolean;
};

/** One `xterm` with what it needs. It lives in an element of its own, which pages show and put away. */
export class Screen {
  readonly element = document.createElement("div");
  readonly terminal: Terminal;
  readonly search = new SearchAddon();
  readonly #fit = new FitAddon();
  readonly #seen = new ResizeObserver(() => this.fit());
  #isOpen = false;
  #mayAnswer = true;

  constructor(theme: ITheme, events: ScreenEvents) {
    this.element.className = "h-full w-full";
    this.terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: true,
      fontFamily: '"IBM Plex Mono", ui-monospace, "DejaVu Sans Mono", monospace',
      fontSize: 13,
      lineHeight: 1.2,
      scrollback,
      theme,
      screenReaderMode: readsAloud(),
    });
    // Where measurements find it: the moment at which it has a sign shows in no element.
    Object.assign(this.element, { terminal: this.terminal });
    this.terminal.loadAddon(this.#fit);
    this.terminal.loadAddon(this.search);
    this.terminal.loadAddon(new WebLinksAddon((_event, uri) => window.open(uri, "_blank", "noopener,noreferrer")));
    this.terminal.onData((text) => {
      if (this.#mayAnswer || !isAnswer(text)) events.type(text); // what a person types meanwhile counts
    });
    this.terminal.onBinary((binary) => events.binary(binary));
    this.terminal.onResize((size) => events.resize(size));
    this.terminal.onTitleChange((title) => events.title(title));
    this.terminal.attachCustomKeyEventHandler((event) => event.type !== "keydown" || !events.key(event));
  }

  get size(): { cols: number; rows: number } {
    return { cols: this.terminal.cols, rows: this.terminal.rows };
  }

  /** Shows output. A program that asked the terminal something long ago, in output that is repeated, gets no answer. */
  write(bytes: Uint8Array, repeated: boolean): void {
    if (!repeated) return this.terminal.write(bytes);
    this.#mayAnswer = false;
    this.terminal.write(bytes, () => {
      this.#mayAnswer = true;
    });
  }

  /** Shows the terminal in `parent`. */
  show(parent: HTMLElement): void {
    parent.append(this.element);
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.terminal.open(this.element);
      this.#accelerate();
    }
    this.#seen.observe(this.element);
    this.fit();
  }

  /** Takes it from the page; it goes on. */
  hide(): void {
    this.#seen.disconnect();
    this.element.remove();
  }

  fit(): void {
    if (this.element.isConnected && this.element.clientWidth > 0) this.#fit.fit();
  }

  dispose(): void {
    this.hide();
    this.terminal.dispose();
  }

  /** Draws by the graphics card where there is one; the page's own elements do otherwise. */
  #accelerate(): void {
    try {
      const addon = new WebglAddon();
      addon.onContextLoss(() => addon.dispose());
      this.terminal.loadAddon(addon);
    } catch {
      // No WebGL here.
    }
  }
}
