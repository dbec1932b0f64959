import type { IconName } from "#lib/ui/icons.ts";

/** The parts of a sandbox's page; `path` follows the sandbox's own. */
export const tabs: readonly { path: string; label: string; icon: IconName }[] = [
  { path: "", label: "Terminal", icon: "terminal" },
  { path: "/files", label: "Files", icon: "folder" },
  { path: "/processes", label: "Processes", icon: "cpu" },
  { path: "/logs", label: "Logs", icon: "log" },
  { path: "/metrics", label: "Metrics", icon: "pulse" },
  { path: "/ports", label: "Ports", icon: "plug" },
  { path: "/network", label: "Network", icon: "globe" },
  { path: "/snapshots", label: "Snapshots", icon: "branch" },
  { path: "/events", label: "Events", icon: "clock" },
];
