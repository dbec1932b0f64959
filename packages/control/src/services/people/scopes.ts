import type { rest } from "@wrenn/contract";

/** What acts inside the guest. */
const insideGuest = /^\/v1\/capsules\/[^/]+\/(exec|files|processes|pty|agent|ports)(\/|$)|^\/mcp(\/|$)/;
/** Sandboxes in the E2B dialect, whose answers carry the token of the guest's agent. */
const withAgentToken = /^(\/v\d)?\/sandboxes(\/|$)/;

type Resource = "sandboxes" | "templates" | "events" | "channels" | "secrets";

const resources: readonly [path: RegExp, resource: Resource][] = [
  [/^\/v1\/capsules(\/|$)/, "sandboxes"],
  [withAgentToken, "sandboxes"],
  [/^(\/v\d)?\/(snapshots|templates|builds)(\/|$)/, "templates"],
  [/^\/v1\/events(\/|$)/, "events"],
  [/^\/v1\/channels(\/|$)/, "channels"],
  [/^\/secrets(\/|$)/, "secrets"],
];

/** The scopes that a key needs for a path of either dialect; `undefined` where no scope opens it. */
export function scopesOf(method: string, path: string): rest.Scope[] | undefined {
  if (insideGuest.test(path)) return ["sandboxes:exec"];
  const resource = resources.find(([pattern]) => pattern.test(path))?.[1];
  const isRead = /^(get|head)$/i.test(method);
  if (!resource) return undefined;
  if (resource === "events") return isRead ? ["events:read"] : undefined;
  return [
    `${resource}:${isRead ? "read" : "write"}`,
    ...(withAgentToken.test(path) ? ["sandboxes:exec" as const] : []),
  ];
}
