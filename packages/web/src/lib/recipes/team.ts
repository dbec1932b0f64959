import { curl, person, type Recipe, signIn } from "./recipe.ts";

/** What can be done on the page of API keys. */
export const keyRecipes = (): Recipe[] => [
  {
    title: "Use a key",
    cli: `export WRENN_BASE_URL=${location.origin} WRENN_API_KEY=wrn_…\nwrenn ls`,
    sdk: `import { Wrenn } from "wrenn";\n\nconst client = new Wrenn({ baseUrl: "${location.origin}", apiKey: "wrn_…" });`,
    curl: curl("GET /v1/capsules"),
  },
  signIn,
  person("Make one", "POST /v1/api-keys", { name: "ci", scopes: ["sandboxes:read"] }),
  person("Revoke one", "DELETE /v1/api-keys/KEY"),
];

/** What can be done with a team and its members. */
export const teamRecipes = (team: string): Recipe[] => [
  signIn,
  person("Members", `GET /v1/teams/${team}/members`),
  person("Invite", `POST /v1/teams/${team}/invitations`, { email: "bob@example.com", role: "member" }),
  person("Change a role", `PATCH /v1/teams/${team}/members/USER`, { role: "admin" }),
  person("Rename the team", `PATCH /v1/teams/${team}`, { name: "Research" }),
];

/** What can be done with channels. */
export const channelRecipes = (): Recipe[] => [
  signIn,
  person("Make one", "POST /v1/channels", {
    name: "ops",
    provider: "webhook",
    config: { url: "https://example.com/hook" },
    events: ["capsule.created"],
  }),
  person("Deliveries of one", "GET /v1/channels/CHANNEL/deliveries"),
  person("Send one again", "POST /v1/channels/CHANNEL/deliveries/DELIVERY/replay"),
];

/** What can be done with hosts. */
export const hostRecipes = (): Recipe[] => [
  signIn,
  person("Make a host and its token", "POST /v1/hosts", {}),
  {
    ...person("Hosts and their load", "GET /v1/hosts"),
    cli: "wrenn host ls",
    sdk: "for (const { id, status, sandboxes } of await client.hosts.list()) console.log(id, status, sandboxes);",
  },
  {
    ...person("Keep new sandboxes away", "POST /v1/hosts/HOST/cordon"),
    cli: "wrenn host cordon HOST",
    sdk: 'await client.hosts.cordon("HOST");',
  },
  {
    ...person("Drain", "POST /v1/hosts/HOST/drain"),
    cli: "wrenn host drain HOST",
    sdk: 'await client.hosts.drain("HOST");',
  },
  person("Tag", "POST /v1/hosts/HOST/tags", { tag: "zone:eu" }),
];

/** What can be read of usage. */
export const usageRecipes = (): Recipe[] => [
  { title: "At once", curl: curl("GET /v1/capsules/stats?range=24h") },
  { title: "Each day", curl: curl("GET /v1/capsules/usage?from=2026-01-01&to=2026-01-31") },
];

/** What can be read of the audit log. */
export const auditRecipes = (): Recipe[] => [
  signIn,
  person("Read", "GET /v1/audit-logs?resource_type=sandbox&action=create"),
  person("Export", "GET /v1/audit-logs/export?format=ndjson"),
  person("Verify", "GET /v1/audit-logs/verify"),
];

/** What can be done with templates and their builds. */
export const templateRecipes = (): Recipe[] => [
  {
    title: "Build from a Dockerfile",
    cli: "wrenn template build tools --file Dockerfile",
    sdk: 'const { id } = await client.builds.start("tools", { dockerfile: "FROM base\\nRUN apt-get install -y jq" });\nawait client.builds.wait(id);',
    curl: curl("POST /v1/templates/tools/builds", { dockerfile: "FROM base\nRUN apt-get install -y jq" }),
  },
  {
    title: "Follow a build",
    cli: "wrenn template logs tools",
    sdk: "for await (const { message } of client.builds.follow(id)) console.log(message);",
    curl: `curl -N ${location.origin}/v1/builds/BUILD/logs \\\n  -H 'Accept: text/event-stream' -H "X-API-Key: $WRENN_API_KEY"`,
  },
  {
    title: "Promote a version",
    cli: "wrenn template tag tools:v2 default",
    sdk: 'await client.builds.tag("tools", ["default"], "v2");',
  },
  {
    title: "List",
    cli: "wrenn templates",
    sdk: "const templates = await client.templates();",
    curl: curl("GET /v1/snapshots"),
  },
  {
    title: "Delete",
    cli: "wrenn template rm tools",
    sdk: 'await client.builds.remove("tools");',
    curl: curl("DELETE /v1/templates/tools"),
  },
];
