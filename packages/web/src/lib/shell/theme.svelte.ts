/** Light, dark, or as the system has it. */
export type Theme = "system" | "light" | "dark";

const name = "wrenn.theme";

class ThemeChoice {
  chosen = $state<Theme>((document.documentElement.dataset.theme as Theme | undefined) ?? "system");
  #systemIsDark = $state(matchMedia("(prefers-color-scheme: dark)").matches);

  constructor() {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ({ matches }) => {
      this.#systemIsDark = matches;
    });
  }

  /** Whether the page is dark now. */
  get isDark(): boolean {
    return this.chosen === "system" ? this.#systemIsDark : this.chosen === "dark";
  }

  choose(theme: Theme): void {
    this.chosen = theme;
    if (theme === "system") {
      localStorage.removeItem(name);
      delete document.documentElement.dataset.theme;
    } else {
      localStorage.setItem(name, theme);
      document.documentElement.dataset.theme = theme;
    }
  }

  /** The other one of light and dark. */
  toggle(): void {
    this.choose(this.isDark ? "light" : "dark");
  }
}

export const theme = new ThemeChoice();
