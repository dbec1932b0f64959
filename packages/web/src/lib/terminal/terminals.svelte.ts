import { theme } from "#lib/shell/theme.svelte.ts";
import { Link, type LinkState } from "./link.ts";
import type { Screen } from "./screen.ts";
import { terminalThemes } from "./theme.ts";

/** One terminal: its connection and its screen, which outlive the page that shows them. */
export class TerminalTab {
  readonly id = crypto.getRandomValues(new Uint32Array(2)).join("-");
  state = $state<LinkState>("connecting");
  why = $state<string>();
  title = $state<string>();
  tag = $state<string>();
  screen = $state.raw<Screen | undefined>(undefined);
  link: Link | undefined;

  constructor(
    readonly path: string,
    tag: string | undefined,
    readonly onKey: (event: KeyboardEvent) => boolean,
    readonly onTag: () => void,
  ) {
    this.tag = tag;
    void this.#open();
  }

  async #open(): Promise<void> {
    const { Screen } = await import("./screen.ts");
    const screen = new Screen(terminalThemes[theme.isDark ? "dark" : "light"], {
      type: (text) => this.link?.type(text),
      binary: (binary) => this.link?.typeBinary(binary),
      resize: (size) => this.link?.resize(size),
      title: (title) => {
        this.title = title;
      },
      key: this.onKey,
    });
    this.screen = screen;
    // The size is known once the page shows the screen.
    await new Promise((resolve) => requestAnimationFrame(resolve));
    const url = `${location.origin.replace(/^http/, "ws")}${this.path}/pty`;
    this.link = new Link(
      { url, tag: this.tag },
      {
        output: (bytes, repeated) => screen.write(bytes, repeated),
        reset: () => screen.terminal.reset(),
        state: (state, why) => {
          this.state = state;
          this.why = why ?? (state === "lost" ? this.why : undefined);
        },
        tag: (tag) => {
          this.tag = tag;
          this.onTag();
        },
        size: () => screen.size,
      },
    );
  }

  /** Ends the shell and takes the tab away. */
  end(): void {
    this.link?.kill();
    setTimeout(() => this.drop(), 50); // the frame goes out before the socket closes
  }

  /** Lets go of the tab; its shell, if it still runs, goes on. */
  drop(): void {
    this.link?.close();
    this.screen?.dispose();
  }
}

/** The terminals of one sandbox, in the order of their tabs. */
export class Terminals {
  tabs = $state<TerminalTab[]>([]);
  current = $state<string>();
  onKey: (event: KeyboardEvent) => boolean = () => false;

  /** `path` is the sandbox's own in the API. */
  constructor(readonly path: string) {
    for (const tag of this.#remembered()) this.open(tag);
  }

  /** The tab that is shown. */
  get shown(): TerminalTab | undefined {
    return this.tabs.find(({ id }) => id === this.current) ?? this.tabs[0];
  }

  /** Opens a terminal: the one of that tag, or a new one. */
  open(tag?: string): TerminalTab {
    const tab = new TerminalTab(
      this.path,
      tag,
      (event) => this.onKey(event),
      () => this.#remember(),
    );
    this.tabs.push(tab);
    this.current = tab.id;
    return tab;
  }

  /** Closes a tab and ends its shell. */
  close(tab: TerminalTab): void {
    const at = this.tabs.findIndex(({ id }) => id === tab.id);
    if (at < 0) return;
    this.tabs.splice(at, 1);
    if (this.current === tab.id) this.current = (this.tabs[at] ?? this.tabs[at - 1])?.id;
    if (tab.state === "ended") tab.drop();
    else tab.end();
    this.#remember();
  }

  /** Lets go of everything; shells go on and are found again by their tags. */
  drop(): void {
    for (const tab of this.tabs) tab.drop();
    this.tabs = [];
  }

  get #name(): string {
    return `wrenn.terminals.${this.path}`;
  }

  #remembered(): string[] {
    try {
      return JSON.parse(sessionStorage.getItem(this.#name) ?? "[]") as string[];
    } catch {
      return [];
    }
  }

  #remember(): void {
    const tags = this.tabs.map(({ tag }) => tag).filter(Boolean);
    sessionStorage.setItem(this.#name, JSON.stringify(tags));
  }
}

/** Sandboxes whose terminals stay open while other pages are looked at. */
const maxKept = 4;
const kept = new Map<string, Terminals>();

/** The terminals of the sandbox at a path of the API, as they were left. */
export function terminalsOf(path: string): Terminals {
  const found = kept.get(path) ?? new Terminals(path);
  kept.delete(path);
  kept.set(path, found);
  for (const [other, terminals] of kept)
    if (kept.size > maxKept) {
      terminals.drop();
      kept.delete(other);
    }
  return found;
}
