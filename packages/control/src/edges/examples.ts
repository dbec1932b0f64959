import type { OpenAPIHono } from "@hono/zod-openapi";
import { type Code, codes, WrennError } from "@wrenn/contract";

/** A schema of the OpenAPI document (JSON Schema 2020-12), as far as an example needs it. */
type Schema = {
  $ref?: string;
  type?: string | string[];
  format?: string;
  example?: unknown;
  examples?: unknown[];
  const?: unknown;
  default?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  propertyNames?: Schema;
  items?: Schema;
  minItems?: number;
  minimum?: number;
  exclusiveMinimum?: number;
  minLength?: number;
};
type Media = { schema?: Schema; example?: unknown; examples?: object };
type Operation = {
  requestBody?: { content?: Record<string, Media> };
  responses: Record<string, { content?: Record<string, Media> }>;
};
type Document = { paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, Schema> } };

/** Bodies that show what their route is for; the others are made up from their schemas. */
const bodies: Readonly<Record<string, unknown>> = {
  "post /v1/capsules": { template: "base", vcpus: 2, memory_mb: 1024, timeout_sec: 600, metadata: { user: "ann" } },
  "post /v1/admin/capsules": { template: "base" },
  "post /v1/capsules/{id}/exec": { cmd: "python3", args: ["-c", "print(6 * 7)"], timeout_sec: 30 },
  "post /v1/capsules/{id}/fork": { count: 2 },
  "put /v1/capsules/{id}/network": { internet: false, allow: ["pypi.org", "*.pythonhosted.org"] },
  "post /v1/templates/{name}/builds": { dockerfile: "FROM base\nRUN pip install requests\n", tags: ["v1"] },
  "post /v1/admin/builds": { name: "tools", dockerfile: "FROM base\nRUN pip install requests\n" },
  "post /v1/api-keys": { name: "ci", scopes: ["sandboxes:read", "sandboxes:exec"] },
  "post /v1/hosts": { type: "regular", availability_zone: "eu-1" },
  "post /v1/channels": {
    ...{ name: "builds", provider: "webhook", config: { url: "https://hooks.example.com/wrenn" } },
    events: ["capsule.created", "capsule.destroyed"],
  },
  "post /v1/channels/test": { provider: "webhook", config: { url: "https://hooks.example.com/wrenn" } },
};

/** What fields of these names hold, where their schema does not say. */
const known: Readonly<Record<string, unknown>> = {
  id: "key-0abcdefghijklmnopqrstuvwx",
  sandbox_id: "cl-0abcdefghijklmnopqrstuvwx",
  sandboxID: "cl-0abcdefghijklmnopqrstuvwx",
  capsule_id: "cl-0abcdefghijklmnopqrstuvwx",
  team_id: "team-0abcdefghijklmnopqrstuvw",
  teamID: "team-0abcdefghijklmnopqrstuvw",
  user_id: "usr-0abcdefghijklmnopqrstuvwx",
  host_id: "host-0abcdefghijklmnopqrstuvw",
  template: "base",
  templateID: "base",
  name: "build-42",
  slug: "3fa21c-90b7d4",
  role: "member",
  email: "ann@example.com",
  path: "/home/user/notes.txt",
  cmd: "python3",
  args: "-c",
  cwd: "/home/user",
  tag: "v1",
  tags: "v1",
  word: "gpu",
  url: "https://hooks.example.com/wrenn",
  sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
  hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
  digest: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
  version: "0.1.0",
  snapshot: "clean",
  code: "123456",
  token: "f3b1c0…",
  password: "correct horse battery",
  new_password: "correct horse battery staple",
  provider: "webhook",
  stdout: "42\n",
  guest_ip: "169.254.0.21",
  host_ip: "127.0.0.1",
  address: "10.0.0.7:50051",
  availability_zone: "eu-1",
  arch: "x64",
  message: "Done.",
  created_at: "2026-01-02T03:04:05.000Z",
  timestamp: "2026-01-02T03:04:05.000Z",
  vcpus: 2,
  memory_mb: 1024,
  disk_size_mb: 5120,
  timeout_sec: 300,
  pid: 42,
};
const byFormat: Readonly<Record<string, string>> = {
  "date-time": "2026-01-02T03:04:05.000Z",
  date: "2026-01-02",
  email: "ann@example.com",
  uri: "https://hooks.example.com/wrenn",
  uuid: "0b8f5c2e-5f0a-4c3e-9b57-6a1f5d2c8e10",
  ipv4: "203.0.113.7",
};

/** Patterns with flags come out of the generator as `…/u`; JSON Schema's are Unicode anyway, and know no others. */
export function plainPatterns(document: unknown): void {
  if (typeof document !== "object" || document === null) return;
  for (const [name, value] of Object.entries(document)) {
    if (name === "pattern" && typeof value === "string")
      Object.assign(document, { pattern: value.replace(/\/u$/, "") });
    plainPatterns(value);
  }
}

/** Gives every JSON body and answer of the document an example; errors have theirs already. */
export function exemplify(document: unknown): void {
  const { paths, components } = document as Document;
  const writer = new Writer(components.schemas);
  const all = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => [`${method} ${path}`, operation] as const),
  );
  for (const [where, operation] of all) {
    const asked = operation.requestBody?.content?.["application/json"];
    if (asked?.schema) asked.example = bodies[where] ?? writer.of(asked.schema, "", "asked");
    for (const { content } of Object.values(operation.responses)) {
      const told = content?.["application/json"];
      if (told?.schema && !told.examples) told.example = writer.of(told.schema, "", "told");
    }
  }
}

/** How much an example shows: an answer all it may have; a request what it must, and what is told by example. */
type Fullness = "asked" | "told";

/** Writes examples; a type that holds itself ends after a few rounds. */
class Writer {
  #depth = 0;

  constructor(readonly schemas: Record<string, Schema>) {}

  of(schema: Schema, name: string, fullness: Fullness): unknown {
    const given = given_(schema);
    if (given !== undefined) return given;
    if (this.#depth > 12) return null;
    this.#depth++;
    try {
      return this.#made(schema, name, fullness);
    } finally {
      this.#depth--;
    }
  }

  #made(schema: Schema, name: string, fullness: Fullness): unknown {
    if (schema.$ref) return this.of(this.schemas[schema.$ref.split("/").at(-1)!]!, name, fullness);
    if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => this.of(part, name, fullness)));
    const choice = (schema.anyOf ?? schema.oneOf)?.find(({ type }) => type !== "null");
    if (choice) return this.of(choice, name, fullness);
    const type = Array.isArray(schema.type) ? schema.type.find((one) => one !== "null") : schema.type;
    if (type === "object") return this.#object(schema, fullness);
    if (type === "array") {
      const count = Math.max(schema.minItems ?? 1, 1);
      return Array.from({ length: count }, () => this.of(schema.items ?? {}, name, fullness));
    }
    if (type === "integer" || type === "number") return number(schema, name);
    if (type === "boolean") return fullness === "told";
    if (type === "string") return text(schema, name);
    return null;
  }

  #object(schema: Schema, fullness: Fullness): unknown {
    const { properties = {}, required = [], additionalProperties } = schema;
    const shown = Object.entries(properties).filter(
      ([name, property]) => required.includes(name) || fullness === "told" || property.example !== undefined,
    );
    const own = shown.map(([name, property]) => [name, this.of(property, name, fullness)]);
    if (Object.keys(properties).length > 0 || typeof additionalProperties !== "object") return Object.fromEntries(own);
    const key = schema.propertyNames?.enum?.[0] ?? "user";
    return { [String(key)]: this.of(additionalProperties, "", fullness) };
  }
}

/** What a schema itself says of its values. */
const given_ = (schema: Schema): unknown =>
  schema.example ?? schema.examples?.[0] ?? schema.const ?? schema.enum?.[0] ?? schema.default;

function number(schema: Schema, name: string): number {
  const least = schema.minimum ?? (schema.exclusiveMinimum === undefined ? 1 : schema.exclusiveMinimum + 1);
  const usual = known[name];
  return typeof usual === "number" ? usual : Math.max(least, 1);
}

function text(schema: Schema, name: string): string {
  if (schema.format && byFormat[schema.format]) return byFormat[schema.format]!;
  if (name.endsWith("_at") || name === "last_updated") return byFormat["date-time"]!;
  const usual = known[name];
  const found = typeof usual === "string" ? usual : "text";
  return found.padEnd(schema.minLength ?? 0, "x");
}

/** What stands in an example of each error. */
const said: Readonly<Record<Code, readonly [message: string, remedy: string]>> = {
  invalid_request: ['body field "vcpus": expected int, received string', "See /docs for the shape of this request."],
  invalid_token: ["The link is used, or older than it may be.", "Ask for another."],
  already_activated: ["The account is active already.", "Sign in."],
  last_login_method: ["It is the only way to sign in to the account.", "Set a password first."],
  unauthorized: ["The API key is unknown.", "Send a key of the team in the header X-API-Key."],
  wrong_password: ["The password is wrong.", "Try again, or have it reset."],
  mfa_required: ["The account has a second factor.", "Send its code as well."],
  forbidden: ["This is for owners of the team.", "Ask one of them."],
  csrf_required: ["A change by cookie needs the header X-Wrenn-CSRF.", "Programs send Authorization: Bearer instead."],
  account_deactivated: ["The account was closed.", "Ask an administrator."],
  account_not_activated: ["The account was not activated yet.", "Open the link in the mail."],
  account_disabled: ["The account was closed.", "Ask an administrator."],
  not_found: ["There is no such sandbox.", "`GET /v1/capsules` lists the sandboxes there are."],
  provider_not_found: ["There is no such way to sign in.", "`GET /v1/auth/providers` tells which there are."],
  timeout: ["The command took longer than 30 seconds and was ended.", "Allow it more time with timeout_sec."],
  invalid_state: ["The sandbox is paused.", "Resume it first."],
  conflict: ["A file is there already.", "Remove it first, or choose another name."],
  has_active_sandboxes: ["The host has 2 sandboxes.", "Drain the host first, or delete it with force=true."],
  email_taken: ["There is an account with this address.", "Sign in, or have the password reset."],
  signup_cooldown: ["An account with this address waits for its activation.", "Open the link in the mail."],
  owns_team_with_members: ["You own a team that has other members.", "Hand it over, or remove them first."],
  precondition_failed: ["It has changed since it was read.", "Read it again, and repeat the change."],
  too_large: ["A JSON body has at most 4 MiB.", "Send large content as a file."],
  command_not_found: ['There is no program "pyhton3" in the sandbox.', "Check the name, or install it."],
  rate_limited: ["There were too many tries.", "Try again after the seconds that Retry-After tells."],
  quota_exceeded: ["The team's quota of sandboxes is used up.", "Delete or pause sandboxes."],
  internal_error: ["internal error", "Look for this request's id in the server's log."],
  unimplemented: ["The host cannot do that.", "Upgrade its wrenn-agent."],
  agent_error: ["The guest agent failed.", "Look at the host agent's log for this request's id."],
  no_hosts_available: ["No host has 512 MiB of memory that is not reserved.", "Pause or delete sandboxes."],
  host_unavailable: ["The sandbox's host cannot be reached.", "Check that wrenn-agent runs there, then try again."],
  unavailable: ["The database does not answer.", "Try again in a moment; it may be starting."],
  insufficient_storage: ["The host's disk is full.", "Delete sandboxes or snapshots there."],
};

/** Puts an example of each error into the document's components, for {@link errorExamples}. */
export function registerErrorExamples(registry: OpenAPIHono["openAPIRegistry"]): void {
  for (const code of codes) {
    const [message, remedy] = said[code];
    const value = new WrennError(code, message, { remedy }).toJSON();
    const shown = { error: { ...value.error, request_id: byFormat.uuid } };
    registry.registerComponent("examples", code, { summary: message, value: shown });
  }
}

/** References to them, by code. */
export const errorExamples = (names: readonly Code[]): Record<string, { $ref: string }> =>
  Object.fromEntries(names.map((code) => [code, { $ref: `#/components/examples/${code}` }]));
