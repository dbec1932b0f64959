import type { IconName } from "#lib/ui/icons.ts";

/** The parts of a sandbox's page; `path` follows the sandbox's own. */
export const tabs: readonly { path: string; label: string; icon: IconName }[] = [
  { path: "", label: "Terminal", icon: "terminal" },
];
