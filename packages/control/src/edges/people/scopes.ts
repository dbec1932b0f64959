import type { rest } from "@wrenn/contract";

/** What below `/v1/capsules/{id}` acts inside the guest. */
const insideGuest = /^\/v1\/capsules\/[^/]+\/(exec|files|processes|pty|agent|ports)(\/|$)/;

const resources: readonly [path: RegExp, resource: "sandboxes" | "templates" | "events"][] = [
  [/^\/v1\/capsules(\/|$)/, "sandboxes"],
  [/^\/v1\/(snapshots|templates|builds)(\/|$)/, "templates"],
  [/^\/v1\/events(\/|$)/, "events"],
];

/** The scope that a key needs for a route, by its pattern or its path; `undefined` where no scope opens it. */
export function scopeOf(method: string, path: string): rest.Scope | undefined {
  if (insideGuest.test(path)) return "sandboxes:exec";
  const resource = resources.find(([pattern]) => pattern.test(path))?.[1];
  const isRead = /^(get|head)$/i.test(method);
  if (!resource) return undefined;
  if (resource === "events") return isRead ? "events:read" : undefined;
  return `${resource}:${isRead ? "read" : "write"}`;
}
