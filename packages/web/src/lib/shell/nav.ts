import type { Me } from "#lib/api/types.ts";
import type { IconName } from "#lib/ui/icons.ts";

/** A page that the sidebar leads to. `go` is the second key after `g`. */
export type Place = { href: string; label: string; icon: IconName; go?: string };

const administration: Place[] = [
  { href: "/admin/sandboxes", label: "Own sandboxes", icon: "box" },
  { href: "/admin/templates", label: "All templates", icon: "layers" },
  { href: "/admin/users", label: "Users", icon: "users" },
  { href: "/admin/teams", label: "Teams", icon: "globe" },
  { href: "/admin/audit", label: "Audit of all", icon: "shield" },
  { href: "/admin/settings", label: "Installation", icon: "gear" },
];

/** The sidebar, in groups: what a key opens, then what a person sees, then what an administrator does. */
export function placesFor(me: Me | undefined): { title: string; items: Place[] }[] {
  const work: Place[] = [
    { href: "/", label: "Home", icon: "home", go: "h" },
    { href: "/sandboxes", label: "Sandboxes", icon: "box", go: "s" },
    { href: "/templates", label: "Templates", icon: "layers", go: "t" },
  ];
  if (!me) return [{ title: "Work", items: work }];
  const team: Place[] = [
    { href: "/team", label: "Members", icon: "users", go: "m" },
    { href: "/usage", label: "Usage", icon: "chart", go: "u" },
    { href: "/keys", label: "API keys", icon: "key", go: "k" },
    { href: "/audit", label: "Audit log", icon: "scroll", go: "a" },
    { href: "/channels", label: "Channels", icon: "bell", go: "c" },
    { href: "/hosts", label: "Hosts", icon: "server", go: "o" },
    { href: "/settings", label: "Settings", icon: "gear", go: "," },
  ];
  const groups = [
    { title: "Work", items: work },
    { title: "Team", items: team },
  ];
  return me.is_admin ? [...groups, { title: "Installation", items: administration }] : groups;
}

/** Whether `path` lies below a place. */
export const isAt = (path: string, href: string): boolean =>
  href === "/" ? path === "/" : path === href || path.startsWith(`${href}/`);
