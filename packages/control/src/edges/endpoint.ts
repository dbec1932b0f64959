import { OpenAPIHono, type RouteConfig } from "@hono/zod-openapi";
import {
  type Code,
  headers,
  httpStatus,
  parseSandboxId,
  prefixes,
  rest,
  type SandboxId,
  WrennError,
} from "@wrenn/contract";
import type { Context } from "hono";
import { z } from "zod";
import { needAdmin, needPerson } from "../services/access.ts";
import type { Caller } from "../services/caller.ts";
import { IfMatch, needMatch, tagged, weaklyTagged } from "./etag.ts";
import { errorExamples } from "./examples.ts";

/** What a request carries through the app: its id, and whose it is once the key is known. */
export type Env = {
  Bindings: {
    peer?: (request: Request) => string | undefined;
    /** Who asks, when another route let them in already; never from outside. */
    admitted?: Caller;
  };
  Variables: { requestId: string; team: string; caller: Caller; body: unknown };
};
/** The app that edges add their routes to. */
export type App = OpenAPIHono<Env>;
/** A new app. */
export const newApp = (): App => new OpenAPIHono<Env>();

/** JSON bodies name things and carry short text; files go another way. */
const maxJsonBytes = 4 * 1024 * 1024;

/** Classes of callers. */
export type Class = "team" | "person" | "granted" | "admin" | "open";

/** One route as its document and its decoder need it. `codes` are its errors beyond those every route can give. */
export type Endpoint<B extends z.ZodType, Q extends z.ZodType> = {
  method: "get" | "post" | "put" | "patch" | "delete";
  /** In OpenAPI's notation: `/v1/capsules/{id}`. */
  path: string;
  /**
   * Who may call (Wrenn REST API 1.4): anybody with a key or a session; a person who is signed in; a person, or a key
   * whose scopes grant it; an administrator of the installation; or, for a route that is added before the door, everybody.
   */
  access?: Class;
  summary: string;
  body?: B;
  query?: Q;
  /** Request headers beyond the usual, for the document. */
  headers?: z.ZodObject;
  /** A request body that is not JSON, as OpenAPI describes it. */
  rawBody?: NonNullable<RouteConfig["request"]>["body"];
  status: 200 | 201 | 202 | 204 | 302;
  /** Schema of a JSON answer, or a media type. */
  answer?: z.ZodType | string;
  codes?: readonly Code[];
  /**
   * The answer is an object that changes: it has an entity tag, and who has it already is told so. A function picks what
   * counts where the rest changes by itself.
   */
  tagged?: true | ((answer: never) => unknown);
  /** What is changed, as its GET tags it: a change that was made for another version (`If-Match`) is refused. */
  changes?(input: Input<z.output<B>, z.output<Q>>): Promise<unknown>;
  /**
   * What has not even the begin of an id is a sandbox that there is not, rather than an id of a wrong shape: so the
   * published client for Python documents it.
   */
  anyText?: true;
};

/** A decoded request. `id` is the sandbox of a path with `{id}` below `/v1/capsules`. */
export type Input<B, Q> = { caller: Caller; id: SandboxId; body: B; query: Q; c: Context<Env> };

const always: readonly Code[] = ["unauthorized", "account_deactivated", "internal_error", "unavailable"];
const withBody: readonly Code[] = ["invalid_request", "too_large"];

/** Adds a route to the app and to the OpenAPI document. `handle` answers a `Response`, a JSON value, or nothing for 204. */
export function endpoint<B extends z.ZodType, Q extends z.ZodType>(
  app: App,
  spec: Endpoint<B, Q>,
  handle: (input: Input<z.output<B>, z.output<Q>>) => Promise<unknown>,
): void {
  app.openAPIRegistry.registerPath(document(spec));
  app.on(spec.method.toUpperCase(), spec.path.replace(/\{(\w+)\}/g, ":$1"), async (c) => {
    const caller = c.get("caller");
    admit(caller, spec.access);
    const input = {
      caller,
      id: namesSandbox(spec.path) ? idOf(c.req.param("id")!, spec.anyText) : ("" as SandboxId),
      query: spec.query ? check(spec.query, c.req.query(), "query") : undefined,
      body: spec.body ? check(spec.body, await readJson(c.req.raw), "body") : undefined,
      c,
    } as Input<z.output<B>, z.output<Q>>;
    c.set("body", input.body);
    const wanted = c.req.header("if-match");
    if (wanted !== undefined && spec.changes) needMatch(wanted, await spec.changes(input));
    const answer = await handle(input);
    if (answer instanceof Response) return answer;
    if (spec.tagged) return tag(spec, c.req.header("if-none-match"), answer);
    return answer === undefined ? c.body(null, 204) : c.json(answer, spec.status as 200);
  });
}

function tag(
  { method, tagged: how }: Pick<Endpoint<z.ZodType, z.ZodType>, "method" | "tagged">,
  have: string | undefined,
  answer: unknown,
) {
  if (typeof how === "function") return weaklyTagged(answer, how(answer as never));
  return tagged(method === "get" ? have : undefined, answer);
}

/** Throws `unauthorized` or `forbidden` for a caller of another class. */
function admit(caller: Caller, access: Class | undefined): void {
  // A key's scopes were looked at at the door; one without any was not made for what is a person's.
  if (access === "person" || (access === "granted" && !caller.scopes)) needPerson(caller);
  if (access === "admin") needAdmin(caller);
}

const namesSandbox = (path: string): boolean => /^\/v1\/(admin\/)?capsules\/\{id\}/.test(path);

/** Adds to the OpenAPI document a route that is served elsewhere than by {@link endpoint}. */
export function describe(
  app: App,
  spec: Omit<Endpoint<z.ZodType, z.ZodType>, "method" | "status"> & {
    methods: readonly RouteConfig["method"][];
    status: number;
  },
): void {
  for (const method of spec.methods)
    app.openAPIRegistry.registerPath({ ...document({ ...spec, method: "get", status: spec.status as 200 }), method });
}

function idOf(text: string, anyText: true | undefined): SandboxId {
  if (!anyText || text.startsWith(prefixes.capsule) || parseSandboxId(text)) return readId(text);
  throw new WrennError("not_found", "There is no such sandbox.", {
    remedy: "An id is `cl-` and 25 characters; `GET /v1/capsules?name=NAME` finds one by its name.",
    details: { kind: "sandbox", id: text },
  });
}

/** The internal id in a path or body. Throws `invalid_request` for text of another shape. */
export function readId(text: string): SandboxId {
  const id = parseSandboxId(text);
  if (id) return id;
  throw new WrennError("invalid_request", "The sandbox id has a wrong shape.", {
    remedy: "An id is `cl-` and 25 characters of 0-9 and a-z.",
  });
}

/** `value` as `schema` reads it. Throws `invalid_request` that names the field. */
export function check<S extends z.ZodType>(schema: S, value: unknown, where: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.join(".");
  throw new WrennError("invalid_request", `${field ? `${where} field "${field}"` : where}: ${issue.message}`, {
    remedy: "See /docs for the shape of this request.",
    ...(field && { details: { field } }),
  });
}

/** The JSON of a body, `{}` for an empty one. Throws `invalid_request` or `too_large`. */
export async function readJson(request: Request): Promise<unknown> {
  if (Number(request.headers.get("content-length")) > maxJsonBytes) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > maxJsonBytes) throw tooLarge();
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  try {
    return text.trim() === "" ? {} : JSON.parse(text);
  } catch {
    throw new WrennError("invalid_request", "The request body is not valid JSON.", { remedy: "Send a JSON object." });
  }
}

const tooLarge = () =>
  new WrennError("too_large", `A JSON body has at most ${maxJsonBytes / 1024 / 1024} MiB.`, {
    remedy: "Send large content as a file.",
  });

/** The errors of `codes` as OpenAPI responses: one per status, its codes named. */
export function errorResponses(codes: readonly Code[]): RouteConfig["responses"] {
  const byStatus = new Map<number, Code[]>();
  for (const code of new Set(codes)) byStatus.set(httpStatus[code], [...(byStatus.get(httpStatus[code]) ?? []), code]);
  const sorted = [...byStatus].sort(([a], [b]) => a - b);
  return Object.fromEntries(
    sorted.map(([status, names]) => [
      status,
      {
        description: `Error code ${names.map((name) => `\`${name}\``).join(" or ")}.`,
        content: { "application/json": { schema: rest.ErrorBodySchema, examples: errorExamples(names) } },
      },
    ]),
  );
}

function document(spec: Endpoint<z.ZodType, z.ZodType>): RouteConfig {
  const names = [...spec.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
  const isPublic = spec.access === "open" || !spec.path.startsWith("/v1/");
  const codes: Code[] = [
    ...(isPublic ? [] : always),
    ...(isPublic || spec.method === "get" ? [] : (["csrf_required"] as const)),
    ...(spec.access !== "person" && spec.access !== "open" ? (["forbidden"] as const) : []),
    ...(namesSandbox(spec.path) ? (["invalid_request", "not_found"] as const) : []),
    ...(spec.changes ? (["precondition_failed"] as const) : []),
    ...(spec.body || spec.rawBody ? withBody : spec.query ? (["invalid_request"] as const) : []),
    ...(spec.codes ?? []),
  ];
  const request = {
    ...(names.length > 0 && { params: z.object(Object.fromEntries(names.map((name) => [name, z.string()]))) }),
    ...(spec.headers ? { headers: spec.headers } : spec.changes && { headers: IfMatch }),
    ...(spec.query && { query: spec.query as unknown as z.ZodObject }),
    ...(spec.body && { body: { required: true, content: { "application/json": { schema: spec.body } } } }),
    ...(spec.rawBody && { body: spec.rawBody }),
  };
  return {
    method: spec.method,
    path: spec.path,
    summary: spec.summary,
    request: request as NonNullable<RouteConfig["request"]>,
    security: isPublic ? [] : securityOf(spec.access),
    responses: {
      [spec.status]: success(spec),
      ...(spec.tagged === true &&
        spec.method === "get" && { 304: { description: "It is as `If-None-Match` has it." } }),
      ...errorResponses(codes),
    },
  };
}

const securityOf = (access: Class = "team"): Record<string, string[]>[] => [
  ...(access === "team" || access === "granted" ? [{ [headers.apiKey]: [] }] : []),
  { session: [] },
];

function success(spec: Endpoint<z.ZodType, z.ZodType>): RouteConfig["responses"][string] {
  const description = spec.summary;
  if (spec.answer === undefined) return { description };
  if (typeof spec.answer === "string")
    return { description, content: { [spec.answer]: { schema: { type: "string", format: "binary" } } } };
  return { description, content: { "application/json": { schema: spec.answer } } };
}
