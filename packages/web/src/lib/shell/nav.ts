import type { IconName } from "#lib/ui/icons.ts";

/** A page that the sidebar leads to. `go` is the second key after `g`. */
export type Place = { href: string; label: string; icon: IconName; go?: string };

/** The sidebar, in groups. */
export const places: readonly { title: string; items: readonly Place[] }[] = [
  {
    title: "Work",
    items: [
      { href: "/", label: "Home", icon: "home", go: "h" },
      { href: "/sandboxes", label: "Sandboxes", icon: "box", go: "s" },
    ],
  },
];

/** Whether `path` lies below a place. */
export const isAt = (path: string, href: string): boolean =>
  href === "/" ? path === "/" : path === href || path.startsWith(`${href}/`);
