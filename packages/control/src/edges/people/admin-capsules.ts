import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Services } from "../../services/index.ts";
import { localTeam } from "../../store/keys.ts";
import { type App, describe, endpoint } from "../endpoint.ts";
import { snapshot } from "../present.ts";
import { lend } from "./lend.ts";

const prefix = "/v1/admin/capsules";
/** Routes of a team's sandboxes that are served for those of the installation's own team too (Wrenn REST API 13). */
const lent: readonly [
  method: "get" | "post" | "delete",
  path: string,
  status: number,
  summary: string,
  answer?: z.ZodType,
][] = [
  ["post", "", 201, "Create a sandbox in the installation's own team.", rest.Capsule],
  ["get", "", 200, "List the sandboxes of the installation's own team.", z.array(rest.Capsule)],
  ["get", "/{id}", 200, "One of them.", rest.Capsule],
  ["delete", "/{id}", 204, "Remove one of them."],
  ["post", "/{id}/exec", 200, "Run a command in one of them.", rest.ExecResult],
  ["post", "/{id}/files/write", 204, "Write a file in one of them."],
  ["post", "/{id}/files/read", 200, "Read a file of one of them."],
  ["post", "/{id}/files/list", 200, "List a directory of one of them.", rest.FileList],
  ["post", "/{id}/files/mkdir", 200, "Make a directory in one of them.", rest.FileCreated],
  ["post", "/{id}/files/remove", 204, "Remove a file of one of them."],
  ["get", "/{id}/metrics", 200, "Metrics of one of them."],
  ["get", "/{id}/processes", 200, "Processes of one of them.", rest.ProcessList],
  ["delete", "/{id}/processes/{selector}", 204, "Send a signal to a process of one of them."],
];

/** `/v1/admin/capsules`: the very routes of a team's sandboxes, for an administrator as if in the installation's own team. */
export function adminCapsuleRoutes(app: App, { snapshots, sandboxes }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: `${prefix}/{id}/snapshot`, access: "admin", status: 201 },
      ...{ body: rest.CreateCheckpoint, answer: rest.Snapshot },
      summary: "Make a template of a sandbox, in the place of one of the same name; the sandbox is removed.",
      codes: [
        "invalid_state",
        "conflict",
        "insufficient_storage",
        "agent_error",
        "host_unavailable",
        "no_hosts_available",
      ],
    },
    async ({ caller, id, body }) => {
      const own = { ...caller, team: localTeam.id };
      const before = body.name === undefined ? undefined : await snapshots.get(own, body.name).catch(() => undefined);
      if (before && "teamId" in before) await snapshots.remove(own, body.name!);
      const made = await snapshots.checkpoint(own, id, body);
      await sandboxes.destroy(own, id);
      return snapshot(made, await snapshots.names([made.parentId]));
    },
  );
  for (const [method, path, status, summary, answer] of lent) {
    const codes = [
      "forbidden",
      "not_found",
      "invalid_request",
      "invalid_state",
      "agent_error",
      "host_unavailable",
    ] as const;
    describe(app, {
      methods: [method],
      path: prefix + path,
      access: "admin",
      status,
      summary,
      ...(answer && { answer }),
      codes,
    });
    app.on(method.toUpperCase(), (prefix + path).replace(/\{(\w+)\}/g, ":$1"), (c) => lend(app, c));
  }
  describe(app, {
    ...{ methods: ["get", "post"], path: `${prefix}/{id}/agent/{path}`, access: "admin", status: 200 },
    ...{
      summary: "Forward a request to the guest agent of one of them.",
      codes: ["invalid_state", "host_unavailable"],
    },
  });
  app.all(`${prefix}/:id/agent/*`, (c) => lend(app, c));
}
