import { rest, WrennError } from "@wrenn/contract";
import type { Context } from "hono";
import { z } from "zod";
import type { Builds } from "../../services/builds/builds.ts";
import { e2bOrigin, readSteps } from "../../services/builds/steps.ts";
import type { Templates } from "../../services/builds/templates.ts";
import type { Uploads } from "../../services/builds/uploads.ts";
import { splitName } from "../../services/builds/versions.ts";
import type { Caller } from "../../services/caller.ts";
import { idOf, plainName, uuidOf } from "../../services/e2b/names.ts";
import type { Snapshots } from "../../services/snapshots.ts";
import type { BuildRow } from "../../store/schema/index.ts";
import type { Env } from "../endpoint.ts";
import {
  buildLogs,
  buildStatus,
  listedTemplate,
  logLevels,
  streamsFrom,
  templateWithBuilds,
} from "./present-builds.ts";
import { maxPage, type Routes, route } from "./route.ts";

/** What these routes stand on. */
export type TemplateGround = { templates: Templates; builds: Builds; uploads: Uploads; snapshots: Snapshots };

/** Times and sizes of builds that name none (E2B protocol, section 5). */
const usual = { vcpus: 2, memoryMib: 1024, timeoutSec: 3600 } as const;
/** Log entries of one answer (E2B protocol, section 5). */
const maxEntries = 100;

/** The last time that there is (ECMA-262, "Time Values and Time Range"), milliseconds. */
const maxTimeMs = 8.64e15;

const StatusQuery = z.object({
  logsOffset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(maxEntries).default(maxEntries),
});

const LogsQuery = z.object({
  cursor: z.coerce.number().int().min(0).max(maxTimeMs).optional(),
  limit: z.coerce.number().int().min(0).max(maxEntries).default(maxEntries),
  direction: z.enum(["forward", "backward"]).default("forward"),
  level: z.enum(logLevels).default("debug"),
});

/** `/templates`, `/v2/templates`, `/v3/templates`: templates, their builds and tags. */
export function templateRoutes(routes: Routes, ground: TemplateGround): void {
  const { templates, snapshots } = ground;
  tagRoutes(routes, ground); // before the routes with a name in the same place
  for (const path of ["/templates", "/v2/templates"])
    route(routes, `GET ${path}`, {}, async ({ caller }) => (await templates.list(caller)).map(listedTemplate));
  route(routes, "GET /templates/aliases/:alias", {}, async ({ caller, c }) => {
    const alias = plainName(c.req.param("alias")!);
    const found = await templates.known(caller, splitName(alias).name);
    if (found) return { templateID: found.id, public: found.platform };
    const snapshot = await snapshots.get(caller, alias);
    return { templateID: snapshot.name, public: !("teamId" in snapshot) };
  });
  route(routes, "DELETE /templates/:template", {}, async ({ caller, c }) => {
    const name = plainName(c.req.param("template")!);
    if (await templates.known(caller, name)) await templates.remove(caller, name);
    else await snapshots.remove(caller, name);
  });
  describeRoutes(routes, ground);
  buildRoutes(routes, ground);
}

/** What the dialect's command line asks beyond its SDKs. */
function describeRoutes(routes: Routes, { templates, builds }: TemplateGround): void {
  route(routes, "GET /templates/:template", {}, async ({ caller, c }) => {
    const shown = await templates.get(caller, plainName(c.req.param("template")!));
    return templateWithBuilds(shown, shown.isOwn ? await builds.list(caller, shown.template.id, maxPage) : []);
  });
  for (const path of ["/templates", "/v2/templates"])
    route(routes, `PATCH ${path}/:template`, { body: rest.UpdateTemplate }, async ({ caller, body, c }) => {
      const { name } = await templates.needPublic(caller, plainName(c.req.param("template")!), body.public);
      return { names: [name] };
    });
  route(routes, "GET /templates/:template/builds/:build/logs", { query: LogsQuery }, async ({ caller, query, c }) => {
    const { cursor, direction, level, limit } = query;
    const { id } = await buildOf(builds, caller, c);
    const at = cursor === undefined ? undefined : new Date(cursor);
    const wanted = { at, newestFirst: direction === "backward", streams: streamsFrom(level), limit };
    return buildLogs(await builds.search(id, wanted));
  });
}

function buildRoutes(routes: Routes, { templates, builds, uploads }: TemplateGround): void {
  route(routes, "POST /v3/templates", { status: 202, body: rest.NewTemplate }, async ({ caller, body }) => {
    const { name, tag } = splitName(plainName(body.name));
    const tags = [...(body.tags ?? []), tag];
    const [vcpus, memoryMib] = [body.cpuCount ?? usual.vcpus, body.memoryMB ?? usual.memoryMib];
    const row = await builds.announce(caller, name, { ...usual, vcpus, memoryMib, tags, noCache: false });
    const names = { names: [name], aliases: [name], tags: [...new Set(tags)] };
    return { templateID: row.templateId, buildID: row.id, public: false, ...names };
  });
  route(routes, "GET /templates/:template/files/:hash", { status: 201 }, async ({ caller, c }) => {
    const template = await templates.own(caller, c.req.param("template")!);
    const hash = filesOf(template.id, c.req.param("hash")!);
    const url = `${originOf(c)}${uploadPath}/${uploads.token({ team: caller.team, hash })}`;
    return { present: await builds.hasFiles(caller, hash), url };
  });
  route(
    routes,
    "POST /v2/templates/:template/builds/:build",
    { status: 202, body: rest.StartBuild },
    async ({ caller, body, c }) => {
      const row = await buildOf(builds, caller, c);
      await builds.complete(caller, row.id, await submission(builds, caller, row, body));
      return c.json({}, 202);
    },
  );
  route(
    routes,
    "GET /templates/:template/builds/:build/status",
    { query: StatusQuery },
    async ({ caller, query, c }) => {
      const row = await buildOf(builds, caller, c);
      return buildStatus(row, await builds.page(row.id, query.logsOffset, query.limit));
    },
  );
}

function tagRoutes(routes: Routes, { templates }: TemplateGround): void {
  route(routes, "POST /templates/tags", { status: 201, body: rest.AssignTags }, async ({ caller, body }) => {
    const { name, tag } = splitName(named(body.target));
    const build = await templates.tag(caller, name, tag, body.tags);
    return { buildID: uuidOf(build.id), tags: body.tags };
  });
  route(routes, "DELETE /templates/tags", { body: rest.RemoveTags }, ({ caller, body }) =>
    templates.untag(caller, splitName(named(body.name)).name, body.tags),
  );
  route(routes, "GET /templates/:template/tags", {}, async ({ caller, c }) => {
    const { tags } = await templates.get(caller, plainName(c.req.param("template")!));
    return tags.map(({ tag, buildId, createdAt }) => ({
      tag,
      buildID: uuidOf(buildId),
      createdAt: createdAt.toISOString(),
    }));
  });
}

/** Where archives are sent; the link opens it, not a key. */
export const uploadPath = "/build-files";

/** The route that takes archives of the E2B dialect. Their names are their senders' business, not their digest. */
export function uploadRoute(routes: Routes, { builds, uploads }: Pick<TemplateGround, "builds" | "uploads">): void {
  route(routes, `PUT ${uploadPath}/:token`, {}, async ({ c }) => {
    const { team, hash } = uploads.open(c.req.param("token")!);
    await builds.upload(team, hash, c.req.raw.body ?? new Blob().stream(), false);
  });
}

/** Digests of clients are unique within their template only. */
const filesOf = (template: string, hash: string): string => `${template}/${hash}`;

async function submission(builds: Builds, caller: Caller, row: BuildRow, body: rest.StartBuild) {
  const steps = (body.steps ?? []).map(({ type, args, filesHash }) => ({
    ...{ type, args },
    filesHash: filesHash ? filesOf(row.templateId, filesHash) : undefined,
  }));
  const from = e2bOrigin(body.fromTemplate ? plainName(body.fromTemplate) : undefined, body.fromImage ?? undefined);
  const plan = readSteps({ from, steps, startCmd: body.startCmd ?? undefined, readyCmd: body.readyCmd ?? undefined });
  await builds.check(caller, plan);
  const given = body.fromImageRegistry;
  if (given && given.type !== "registry")
    throw new WrennError("unimplemented", `Registries of type ${given.type} are not supported.`, {
      remedy: "Use a user name and a password or token.",
    });
  const registry = given ? { username: given.username, password: given.password } : undefined;
  const noCache = body.force === true || (body.steps ?? []).some(({ force }) => force === true);
  const text = plan.stages[0]!.instructions.map((instruction) => instruction.text).join("\n");
  const base = from.kind === "template" ? from.name : from.kind === "image" ? from.reference : "";
  return { plan, source: { kind: "steps" as const, base, text }, noCache, registry };
}

async function buildOf(builds: Builds, caller: Caller, c: Context<Env>): Promise<BuildRow> {
  const row = await builds.get(caller, idOf(c.req.param("build")!));
  if (row.templateId === c.req.param("template")) return row;
  throw new WrennError("not_found", "The build is of another template.", { remedy: "Use the ids of one answer." });
}

/** A name with its tag. Throws `invalid_request` for `:tag` and `name:`. */
function named(text: string): string {
  const name = plainName(text);
  if (/^[^:]+(:[^:]+)?$/.test(name) && !/^:|:$/.test(text)) return name;
  throw new WrennError("invalid_request", `"${text}" is not NAME or NAME:TAG.`, { remedy: "Write it so." });
}

/** Where the client reached this server. */
function originOf(c: Context<Env>): string {
  const url = new URL(c.req.url);
  return `${c.req.header("x-forwarded-proto")?.split(",")[0]?.trim() || url.protocol.slice(0, -1)}://${url.host}`;
}
