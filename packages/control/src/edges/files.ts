import type { RouteConfig } from "@hono/zod-openapi";
import { rest } from "@wrenn/contract";
import type { Files } from "../services/files.ts";
import { type App, endpoint } from "./endpoint.ts";
import { readForm, readUpload } from "./multipart.ts";

/** What a guest or its host may answer besides. */
const guestCodes = ["forbidden", "invalid_state", "unimplemented", "host_unavailable", "agent_error"] as const;
const octets = "application/octet-stream";
const form = {
  required: true,
  content: {
    "multipart/form-data": {
      schema: {
        type: "object" as const,
        required: ["path", "file"],
        properties: { path: { type: "string" as const }, file: { type: "string" as const, format: "binary" } },
      },
    },
  },
} satisfies NonNullable<RouteConfig["request"]>["body"];

/** `/v1/capsules/{id}/files`. */
export function fileRoutes(app: App, files: Files): void {
  const base = "/v1/capsules/{id}/files";
  const shared = { method: "post", codes: [...guestCodes, "insufficient_storage"] } as const;
  endpoint(
    app,
    { ...shared, path: `${base}/write`, summary: "Write a file of at most 100 MiB.", rawBody: form, status: 204 },
    async ({ caller, id, c }) => {
      const { path, content } = await readForm(c.req.raw);
      await files.write(caller, id, path, content);
    },
  );
  endpoint(
    app,
    {
      ...shared,
      path: `${base}/stream/write`,
      summary: "Write a file of any size as it arrives; `path` comes first.",
      rawBody: form,
      status: 204,
    },
    async ({ caller, id, c }) => {
      const { path, content } = await readUpload(c.req.raw);
      await files.write(caller, id, path, content);
    },
  );
  for (const [path, summary] of [
    ["read", "Read a file."],
    ["stream/read", "Read a file as it comes."],
  ] as const)
    endpoint(
      app,
      { ...shared, path: `${base}/${path}`, summary, body: rest.PathRequest, status: 200, answer: octets },
      async ({ caller, id, body, c }) => {
        const file = await files.read(caller, id, body.path, c.req.raw.signal);
        return new Response(file.body, { headers: { "content-type": octets } });
      },
    );
  directoryRoutes(app, files);
}

function directoryRoutes(app: App, files: Files): void {
  const base = "/v1/capsules/{id}/files";
  endpoint(
    app,
    {
      method: "post",
      path: `${base}/list`,
      summary: "List a directory.",
      body: rest.ListRequest,
      status: 200,
      answer: rest.FileList,
      codes: guestCodes,
    },
    async ({ caller, id, body }) => ({ entries: await files.list(caller, id, body) }),
  );
  endpoint(
    app,
    {
      method: "post",
      path: `${base}/mkdir`,
      summary: "Make a directory and its parents.",
      body: rest.PathRequest,
      status: 200,
      answer: rest.FileCreated,
      codes: [...guestCodes, "conflict"],
    },
    async ({ caller, id, body }) => ({ entry: await files.makeDir(caller, id, body.path) }),
  );
  endpoint(
    app,
    {
      method: "post",
      path: `${base}/remove`,
      summary: "Remove a file, or a directory with all it holds.",
      body: rest.PathRequest,
      status: 204,
      codes: guestCodes,
    },
    async ({ caller, id, body }) => files.remove(caller, id, body.path),
  );
}
