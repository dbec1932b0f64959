import { rest, WrennError } from "@wrenn/contract";
import { z } from "zod";
import type { Builds } from "../../services/builds/builds.ts";
import type { Exports } from "../../services/builds/exports.ts";
import type { Templates } from "../../services/builds/templates.ts";
import { type App, endpoint, type Input } from "../endpoint.ts";
import { build, builtTemplate } from "./present.ts";

const buildCodes = ["conflict", "rate_limited", "no_hosts_available", "host_unavailable"] as const;
const hash = /^[0-9a-f]{64}$/;

/** `/v1/templates`: what was built, how its versions are called, and the way to build more. */
export function templateRoutes(
  app: App,
  { templates, builds, exports }: { templates: Templates; builds: Builds; exports: Exports },
): void {
  fileRoutes(app, builds);
  exportRoute(app, exports);
  const one = async ({ caller, c }: Where) => builtTemplate(await templates.get(caller, c.req.param("name")!));
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/templates",
      summary: "List the templates that were built: the team's own and the installation's.",
      status: 200,
      answer: z.array(rest.BuiltTemplate),
    },
    async ({ caller }) => (await templates.list(caller)).map(builtTemplate),
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/templates/{name}",
      summary: "One of them, by name or id.",
      status: 200,
      answer: rest.BuiltTemplate,
      codes: ["not_found"],
      tagged: true,
    },
    one,
  );
  endpoint(
    app,
    {
      method: "delete",
      path: "/v1/templates/{name}",
      summary: "Remove a template with all its versions; sandboxes that were made from it stay.",
      status: 204,
      codes: ["not_found", "forbidden", "conflict"],
      changes: one,
    },
    async ({ caller, c }) => templates.remove(caller, c.req.param("name")!),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/templates/{name}/builds",
      summary: "Build a version from a Dockerfile, a recipe, or a template or image as it is.",
      body: rest.CreateBuild,
      status: 202,
      answer: rest.Build,
      codes: buildCodes,
    },
    async ({ caller, body, c }) => {
      const name = c.req.param("name")!;
      return c.json(build(await builds.submit(caller, name, body), name.split(":")[0]!), 202);
    },
  );
  tagRoutes(app, templates, one);
}

/** A template as a file. */
function exportRoute(app: App, exports: Exports): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/templates/{name}/export",
      summary:
        "A version (`NAME` or `NAME:TAG`) as an OCI artifact in a tar: its disk and what it starts, not its memory.",
      status: 200,
      answer: "application/x-tar",
      codes: ["not_found", "host_unavailable", "agent_error", "insufficient_storage"],
    },
    async ({ caller, c }) => {
      const body = await exports.open(caller, c.req.param("name")!, c.req.raw.signal);
      return new Response(body, { headers: { "content-type": "application/x-tar" } });
    },
  );
}

type Where = Pick<Input<unknown, unknown>, "caller" | "c">;

function tagRoutes(app: App, templates: Templates, one: (where: Where) => Promise<rest.BuiltTemplate>): void {
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/templates/{name}/tags",
      summary: "Point tags at a version.",
      body: rest.TagTemplate,
      status: 200,
      answer: rest.BuiltTemplate,
      codes: ["not_found", "forbidden"],
      ...{ tagged: true, changes: one },
    },
    async ({ caller, body, c }) => {
      await templates.tag(caller, c.req.param("name")!, body.version, body.tags);
      return await one({ caller, c });
    },
  );
  endpoint(
    app,
    {
      method: "delete",
      path: "/v1/templates/{name}/tags/{tag}",
      summary: "Remove a tag; the version stays under its other tags and its id.",
      status: 204,
      codes: ["invalid_request", "not_found", "forbidden"],
      changes: one,
    },
    async ({ caller, c }) => templates.untag(caller, c.req.param("name")!, [c.req.param("tag")!]),
  );
}

/** Archives that COPY takes from; they are told by their SHA-256, so the same one is sent once. */
function fileRoutes(app: App, builds: Builds): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/templates/files/{hash}",
      summary: "Whether an archive with this SHA-256 was uploaded.",
      status: 200,
      answer: rest.BuildFilesPresent,
      codes: ["invalid_request"],
    },
    async ({ caller, c }) => ({ present: await builds.hasFiles(caller, readHash(c.req.param("hash")!)) }),
  );
  endpoint(
    app,
    {
      method: "put",
      path: "/v1/templates/files/{hash}",
      summary: "Upload an archive (tar, tar.gz, tar.zst or zip) under its SHA-256.",
      rawBody: { content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } } },
      status: 204,
    },
    async ({ caller, c }) => {
      const body = c.req.raw.body ?? new Blob().stream();
      await builds.upload(caller.team, readHash(c.req.param("hash")!), body, true);
    },
  );
}

function readHash(text: string): string {
  if (hash.test(text)) return text;
  throw new WrennError("invalid_request", "The name of an archive is its SHA-256.", {
    remedy: "Send 64 hexadecimal digits, as `sha256sum` prints them.",
  });
}
