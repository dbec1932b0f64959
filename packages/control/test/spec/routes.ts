/** Who may call a route, as the reference names the classes (Wrenn REST API 1.4). */
export type Class = "none" | "JWT" | "KEY/JWT" | "HOST" | "ADMIN";

/**
 * A route of the reference: method, path, class, the status that whoever is let in gets, and a body it accepts. What the
 * path names does not exist, and the bodies ask for nothing that could be done, unless the status says that it was.
 */
export type Route = readonly [method: string, path: string, access: Class, status: number, body?: object | undefined];

const capsule = [
  ["GET", "", "KEY/JWT", 404],
  ["DELETE", "", "KEY/JWT", 404],
  ["POST", "/pause", "KEY/JWT", 404],
  ["POST", "/resume", "KEY/JWT", 404],
  ["POST", "/ping", "KEY/JWT", 404],
  ["POST", "/exec", "KEY/JWT", 404, { cmd: "/bin/true" }],
  ["POST", "/files/write", "KEY/JWT", 400],
  ["POST", "/files/read", "KEY/JWT", 404, { path: "/etc/hostname" }],
  ["POST", "/files/stream/write", "KEY/JWT", 400],
  ["POST", "/files/stream/read", "KEY/JWT", 404, { path: "/etc/hostname" }],
  ["POST", "/files/list", "KEY/JWT", 404, { path: "/" }],
  ["POST", "/files/mkdir", "KEY/JWT", 404, { path: "/tmp/x" }],
  ["POST", "/files/remove", "KEY/JWT", 404, { path: "/tmp/x" }],
  ["GET", "/metrics", "KEY/JWT", 404],
  ["GET", "/processes", "KEY/JWT", 404],
  ["DELETE", "/processes/{selector}", "KEY/JWT", 404],
] as const satisfies readonly Route[];

const admin = [
  "",
  "/exec",
  "/files/write",
  "/files/read",
  "/files/list",
  "/files/mkdir",
  "/files/remove",
  "/metrics",
  "/processes",
  "/processes/{selector}",
];

/** The HTTP routes of the reference, sections 2 to 15: a hundred, and the stream of events that newer clients know. */
export const routes: readonly Route[] = [
  ["GET", "/health", "none", 200],
  ["GET", "/openapi.yaml", "none", 200],
  ["GET", "/docs", "none", 200],
  ["POST", "/v1/auth/signup", "none", 400, {}],
  ["POST", "/v1/auth/activate", "none", 400, { token: "x" }],
  ["POST", "/v1/auth/login", "none", 401, { email: "nobody@example.com", password: "no password" }],
  ["POST", "/v1/auth/switch-team", "JWT", 404, { team_id: "team-none" }],
  ["GET", "/auth/oauth/{provider}", "none", 404],
  ["GET", "/auth/oauth/{provider}/callback", "none", 302],
  ["GET", "/v1/me", "JWT", 200],
  ["PATCH", "/v1/me", "JWT", 200, { name: "Same" }],
  ["POST", "/v1/me/password", "JWT", 401, { new_password: "a new password" }],
  ["GET", "/v1/me/providers/{provider}/connect", "JWT", 404],
  ["DELETE", "/v1/me/providers/{provider}", "JWT", 404],
  ["DELETE", "/v1/me", "JWT", 400, { confirmation: "no" }],
  ["POST", "/v1/me/password/reset", "none", 204, { email: "nobody@example.com" }],
  ["POST", "/v1/me/password/reset/confirm", "none", 400, { token: "x", new_password: "a new password" }],
  ["POST", "/v1/api-keys", "JWT", 201, { name: "spec" }],
  ["GET", "/v1/api-keys", "JWT", 200],
  ["DELETE", "/v1/api-keys/{key}", "JWT", 204],
  ["GET", "/v1/teams", "JWT", 200],
  ["POST", "/v1/teams", "JWT", 201, { name: "Spec" }],
  ["GET", "/v1/teams/{id}", "JWT", 403],
  ["PATCH", "/v1/teams/{id}", "JWT", 403, { name: "Spec" }],
  ["DELETE", "/v1/teams/{id}", "JWT", 403],
  ["GET", "/v1/teams/{id}/members", "JWT", 403],
  ["POST", "/v1/teams/{id}/members", "JWT", 403, { email: "nobody@example.com" }],
  ["PATCH", "/v1/teams/{id}/members/{user}", "JWT", 403, { role: "admin" }],
  ["DELETE", "/v1/teams/{id}/members/{user}", "JWT", 403],
  ["POST", "/v1/teams/{id}/leave", "JWT", 403],
  ["GET", "/v1/users/search?email=ann@", "JWT", 200],
  ["POST", "/v1/capsules", "KEY/JWT", 404, { template: "no-such-template" }],
  ["GET", "/v1/capsules", "KEY/JWT", 200],
  ["GET", "/v1/capsules/stats", "KEY/JWT", 200],
  ["GET", "/v1/capsules/usage", "KEY/JWT", 200],
  ...capsule.map(([method, path, ...rest]): Route => [method, `/v1/capsules/{id}${path}`, ...rest]),
  ["POST", "/v1/snapshots", "KEY/JWT", 404, { sandbox_id: `cl-${"0".repeat(25)}` }],
  ["GET", "/v1/snapshots", "KEY/JWT", 200],
  ["DELETE", "/v1/snapshots/{name}", "KEY/JWT", 404],
  ["POST", "/v1/hosts/register", "none", 401, { token: "x", address: "127.0.0.1:1" }],
  ["POST", "/v1/hosts/auth/refresh", "none", 401, { refresh_token: "x" }],
  ["POST", "/v1/hosts/{id}/heartbeat", "HOST", 401],
  // The reference knows people only; here the installation's own key is an operator's too, and others see nothing.
  ["POST", "/v1/hosts", "KEY/JWT", 403, { type: "byoc", team_id: `team-${"y".repeat(25)}` }],
  ["GET", "/v1/hosts", "KEY/JWT", 200],
  ["GET", "/v1/hosts/{id}", "KEY/JWT", 404],
  ["DELETE", "/v1/hosts/{id}", "KEY/JWT", 404],
  ["GET", "/v1/hosts/{id}/delete-preview", "KEY/JWT", 404],
  ["POST", "/v1/hosts/{id}/token", "KEY/JWT", 404],
  ["GET", "/v1/hosts/{id}/tags", "KEY/JWT", 404],
  ["POST", "/v1/hosts/{id}/tags", "KEY/JWT", 404, { tag: "x" }],
  ["DELETE", "/v1/hosts/{id}/tags/{tag}", "KEY/JWT", 404],
  ["POST", "/v1/channels", "JWT", 400, {}],
  ["GET", "/v1/channels", "JWT", 200],
  ["POST", "/v1/channels/test", "JWT", 400, {}],
  ["GET", "/v1/channels/{id}", "JWT", 404],
  ["PATCH", "/v1/channels/{id}", "JWT", 400, { name: "x", events: [] }],
  ["PUT", "/v1/channels/{id}/config", "JWT", 404, { config: {} }],
  ["DELETE", "/v1/channels/{id}", "JWT", 404],
  ["GET", "/v1/audit-logs", "JWT", 200],
  ["GET", "/v1/admin/teams", "ADMIN", 200],
  ["PUT", "/v1/admin/teams/{team}/byoc", "ADMIN", 404, { enabled: true }],
  ["DELETE", "/v1/admin/teams/{team}", "ADMIN", 404],
  ["GET", "/v1/admin/users", "ADMIN", 200],
  ["PUT", "/v1/admin/users/{user}/active", "ADMIN", 404, { active: true }],
  ["GET", "/v1/admin/audit-logs", "ADMIN", 200],
  ["GET", "/v1/admin/templates", "ADMIN", 200],
  ["DELETE", "/v1/admin/templates/{name}", "ADMIN", 404],
  ["POST", "/v1/admin/builds", "ADMIN", 400, {}],
  ["GET", "/v1/admin/builds", "ADMIN", 200],
  ["GET", "/v1/admin/builds/{id}", "ADMIN", 404],
  ["POST", "/v1/admin/builds/{id}/cancel", "ADMIN", 404],
  ["POST", "/v1/admin/capsules", "ADMIN", 404, { template: "no-such-template" }],
  ["GET", "/v1/admin/capsules", "ADMIN", 200],
  ...capsule
    .filter(([, path]) => admin.includes(path))
    .map(([method, path, , status, body]): Route => [method, `/v1/admin/capsules/{id}${path}`, "ADMIN", status, body]),
  ["POST", "/v1/admin/capsules/{id}/snapshot", "ADMIN", 404, {}],
  ["GET", "/v1/events/stream", "KEY/JWT", 200],
];

/** Its WebSockets (sections 8.9 and 13); those of administrators are let in by their first message alone. */
export const sockets: readonly (readonly [path: string, access: "KEY/JWT" | "ADMIN"])[] = [
  ...["exec/stream", "pty", "processes/{selector}/stream"].flatMap((path) => [
    [`/v1/capsules/{id}/${path}`, "KEY/JWT"] as const,
    [`/v1/admin/capsules/{id}/${path}`, "ADMIN"] as const,
  ]),
];
