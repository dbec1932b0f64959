/** The languages in which actions are shown. */
export const languages = { cli: "CLI", sdk: "SDK", curl: "curl" } as const;
export type Language = keyof typeof languages;

/** The one that was looked at last, on every page. */
export const chosen = $state<{ language: Language }>({ language: "cli" });
