import { rest, WrennError } from "@wrenn/contract";
import { z } from "zod";
import { needAdmin } from "../../services/access.ts";
import type { Caller } from "../../services/caller.ts";
import type { Services } from "../../services/index.ts";
import { localTeam } from "../../store/keys.ts";
import { build } from "../builds/present.ts";
import { type App, describe, endpoint } from "../endpoint.ts";
import { lend } from "./lend.ts";

/** Most templates one answer lists. */
const maxTemplates = 1_000;
const maxBuilds = 100;
const CreateAdminBuild = rest.CreateBuild.extend({ name: z.string() }).meta({ id: "CreateAdminBuild" });

/** The installation's own templates are those of its own team. */
const own = (caller: Caller) => ({ ...needAdmin(caller), team: localTeam.id });

/** `/v1/admin/templates` (Wrenn REST API 13). */
export function adminTemplateRoutes(app: App, { admin, audit, snapshots, templates }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/admin/templates", access: "admin", status: 200 },
      ...{ answer: z.array(rest.AdminTemplate), summary: "Built templates and snapshots of all teams, newest first." },
    },
    async () => admin.ground.store.admin.templates(maxTemplates),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/admin/templates/{name}", access: "admin", status: 204 },
      summary: "Remove a template or snapshot of the installation's own team.",
      codes: ["not_found", "forbidden", "conflict"],
    },
    async ({ caller, c }) => {
      const id = c.req.param("name")!;
      await templates.remove(own(caller), id).catch((thrown: unknown) => {
        if (WrennError.from(thrown).code !== "not_found") throw thrown;
        return snapshots.remove(own(caller), id);
      });
      audit.note(own(caller), {
        resource: { type: "template", id },
        action: "delete",
        scope: "admin",
        status: "warning",
      });
    },
  );
  endpoint(
    app,
    {
      ...{ method: "put", path: "/v1/admin/templates/{name}/platform", access: "admin", status: 204 },
      ...{ body: rest.SetPlatform, codes: ["not_found", "forbidden", "conflict"] },
      summary: "Open a template of the installation's own team to every team, or close it.",
    },
    async ({ caller, body, c }) => {
      const id = c.req.param("name")!;
      await templates.publish(own(caller), id, body.platform);
      const action = body.platform ? "publish" : "unpublish";
      audit.note(own(caller), { resource: { type: "template", id }, action, scope: "admin", status: "info" });
    },
  );
}

/** `/v1/admin/builds`: builds of the installation's own team. */
export function adminBuildRoutes(app: App, { audit, builds }: Services): void {
  const path = "/v1/admin/builds" as const;
  const show = async (row: Parameters<typeof build>[0]) => build(row, await builds.templateName(row));
  endpoint(
    app,
    {
      ...{ method: "post", path, access: "admin", status: 201, body: CreateAdminBuild, answer: rest.Build },
      summary: "Build a template of the installation's own team; archives are uploaded to /v1/templates/files first.",
      codes: ["not_found", "forbidden", "conflict", "rate_limited"],
    },
    async ({ caller, body: { name, ...plan } }) => {
      const row = await builds.submit(own(caller), name, plan);
      const resource = { type: "build", id: row.id };
      audit.note(own(caller), { resource, action: "create", scope: "admin", metadata: { name } });
      return build(row, name.split(":")[0]!);
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path, access: "admin", status: 200, answer: z.array(rest.Build) },
      summary: "The builds of the installation's own team, newest first.",
    },
    async ({ caller }) => Promise.all((await builds.list(own(caller), undefined, maxBuilds)).map(show)),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: `${path}/{build}`, access: "admin", status: 200, answer: rest.Build },
      summary: "One of them.",
      codes: ["not_found"],
    },
    async ({ caller, c }) => show(await builds.get(own(caller), c.req.param("build")!)),
  );
  describe(app, {
    ...{ methods: ["get"], path: `${path}/{build}/logs`, access: "admin", status: 200, answer: rest.BuildLog },
    ...{ summary: "The log of one of them; with `Accept: text/event-stream` as it comes.", codes: ["not_found"] },
  });
  app.get(`${path}/:build/logs`, (c) => lend(app, c));
  endpoint(
    app,
    {
      ...{ method: "post", path: `${path}/{build}/cancel`, access: "admin", status: 204 },
      summary: "End one of them.",
      codes: ["not_found", "invalid_state"],
    },
    async ({ caller, c }) => {
      const id = c.req.param("build")!;
      await builds.cancel(own(caller), id);
      audit.note(own(caller), { resource: { type: "build", id }, action: "cancel", scope: "admin", status: "warning" });
    },
  );
}
