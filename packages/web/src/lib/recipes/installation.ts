import { curl, person, type Recipe, signIn } from "./recipe.ts";

/** What a person can do with their own account. */
export const settingsRecipes = (): Recipe[] => [
  signIn,
  person("Who I am", "GET /v1/me"),
  person("Change the name", "PATCH /v1/me", { name: "Ann Lee" }),
  person("Change the password", "POST /v1/me/password", { current_password: "…", new_password: "…" }),
  person("Begin a second factor", "POST /v1/me/mfa", {}),
  person("Turn it on", "POST /v1/me/mfa/confirm", { code: "123456" }),
  person("Where I am signed in", "GET /v1/me/sessions"),
  person("End every other session", "DELETE /v1/me/sessions"),
];

/** What an administrator can do with accounts. */
export const userRecipes = (): Recipe[] => [
  signIn,
  person("List", "GET /v1/admin/users?page=1"),
  person("Make one an administrator", "PUT /v1/admin/users/USER/admin", { is_admin: true }),
  person("Close one", "PUT /v1/admin/users/USER/active", { active: false }),
  person("Act as one, for an hour", "POST /v1/admin/users/USER/impersonate", { reason: "ticket 41" }),
];

/** What an administrator can do with teams. */
export const teamsRecipes = (): Recipe[] => [
  signIn,
  person("List", "GET /v1/admin/teams?page=1"),
  person("Limits of one", "PUT /v1/admin/teams/TEAM/quotas", { sandboxes: 20, memory_mb: 32_768 }),
  person("The installation's limits for it again", "DELETE /v1/admin/teams/TEAM/quotas"),
  person("Its own hosts only", "PUT /v1/admin/teams/TEAM/byoc", { enabled: true }),
  person("Delete", "DELETE /v1/admin/teams/TEAM"),
];

/** What holds for everybody. */
export const installationRecipes = (): Recipe[] => [
  signIn,
  person("Read", "GET /v1/admin/settings"),
  person("Only who is invited may make an account", "PATCH /v1/admin/settings", { signup: "invite" }),
  person("Limits of a team", "PATCH /v1/admin/settings", { default_quotas: { sandboxes: 50 } }),
];

/** What an administrator can do with the sandboxes of the installation's own team. */
export const ownSandboxRecipes = (): Recipe[] => [
  signIn,
  person("Launch one", "POST /v1/admin/capsules", { template: "base" }),
  person("List", "GET /v1/admin/capsules"),
  person("Make a template of one", "POST /v1/admin/capsules/SANDBOX/snapshot", { name: "tools" }),
  person("Destroy", "DELETE /v1/admin/capsules/SANDBOX"),
];

/** What an administrator can do with templates and builds of the installation's own team. */
export const ownTemplateRecipes = (): Recipe[] => [
  signIn,
  person("Build one", "POST /v1/admin/builds", { name: "tools", dockerfile: "FROM base\nRUN pip install requests" }),
  {
    title: "Follow a build",
    curl: `${curl("GET /v1/admin/builds/BUILD/logs", undefined, "person")} \\\n  -N -H 'Accept: text/event-stream'`,
  },
  person("Open it to every team", "PUT /v1/admin/templates/tools/platform", { platform: true }),
  person("List those of all teams", "GET /v1/admin/templates"),
  person("Delete", "DELETE /v1/admin/templates/tools"),
];

/** What can be read of the audit log of all teams. */
export const allAuditRecipes = (): Recipe[] => [
  signIn,
  person("Read", "GET /v1/admin/audit-logs?team=all&resource_type=user"),
];
