import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Snapshots } from "../services/snapshots.ts";
import type { SnapshotRow } from "../store/schema/index.ts";
import { type App, endpoint, readId } from "./endpoint.ts";
import { builtNow, snapshot, template } from "./present.ts";

const Query = z.object({
  type: z
    .enum(["base", "snapshot", "custom"])
    .optional()
    .meta({ description: "Templates, or the team's snapshots; `custom` is what some clients call the latter." }),
});
const TakeQuery = z.object({
  overwrite: z
    .enum(["true", "false"])
    .default("false")
    .meta({ description: "`true`: in the place of the team's snapshot of this name, which is removed then." }),
});
const Any = z.union([rest.Snapshot, rest.Template]);

/** What taking a snapshot may fail with. */
const takingCodes = ["invalid_state", "conflict", "insufficient_storage", "agent_error"] as const;
const hostCodes = ["no_hosts_available", "host_unavailable"] as const;

/** `/v1/snapshots`: what sandboxes can be created from; and the checkpoints that add to it. */
export function snapshotRoutes(app: App, snapshots: Snapshots): void {
  const show = async (rows: readonly SnapshotRow[]): Promise<rest.Snapshot[]> => {
    const names = await snapshots.names(rows.map((row) => row.parentId));
    return rows.map((row) => snapshot(row, names));
  };
  taking(app, snapshots, show);
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/snapshots",
      summary:
        "List what sandboxes start from: templates of the hosts, templates that were built, the team's snapshots.",
      query: Query,
      status: 200,
      answer: z.array(Any),
      codes: hostCodes,
    },
    async ({ caller, query: { type } }) => {
      const own = type === "base" ? [] : await show(await snapshots.list(caller));
      if (type === "snapshot" || type === "custom") return own;
      return [...(await snapshots.templates()).map(template), ...(await snapshots.built(caller)).map(builtNow), ...own];
    },
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/snapshots/{name}",
      summary: "One of the team's snapshots, or a template.",
      status: 200,
      answer: Any,
      codes: ["not_found", ...hostCodes],
    },
    async ({ caller, c }) => {
      const found = await snapshots.get(caller, c.req.param("name")!);
      if ("current" in found) return builtNow(found);
      return "teamId" in found ? (await show([found]))[0] : template(found);
    },
  );
  endpoint(
    app,
    {
      method: "delete",
      path: "/v1/snapshots/{name}",
      summary: "Remove a snapshot; sandboxes and snapshots that were made from it stay.",
      status: 204,
      codes: ["forbidden", "not_found", "agent_error", ...hostCodes],
    },
    async ({ caller, c }) => snapshots.remove(caller, c.req.param("name")!),
  );
}

type Show = (rows: readonly SnapshotRow[]) => Promise<rest.Snapshot[]>;

function taking(app: App, snapshots: Snapshots, show: Show): void {
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/checkpoint",
      summary: "Take a snapshot of a running or paused sandbox, which stays as it is.",
      body: rest.CreateCheckpoint,
      status: 201,
      answer: rest.Snapshot,
      codes: [...takingCodes, ...hostCodes],
    },
    async ({ caller, id, body: { disk_only: diskOnly, ...label } }) =>
      (await show([await snapshots.checkpoint(caller, id, { ...label, diskOnly })]))[0],
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/snapshots",
      summary: "Take a snapshot of a running or paused sandbox, which is paused afterwards.",
      body: rest.CreateSnapshot,
      query: TakeQuery,
      status: 201,
      answer: rest.Snapshot,
      codes: ["not_found", ...takingCodes, ...hostCodes],
    },
    async ({ caller, body, query }) => {
      const { sandbox_id: id, ...label } = body;
      const take = query.overwrite === "true" ? snapshots.replacing : snapshots.pausing;
      return (await show([await take.call(snapshots, caller, readId(id), label)]))[0];
    },
  );
}
