import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Volumes } from "../../services/e2b/volumes.ts";
import type { VolumeRow } from "../../store/schema/index.ts";
import { type App, endpoint } from "../endpoint.ts";

/** `/v1/volumes`: files of a team that outlive its sandboxes. */
export function volumeRoutes(app: App, volumes: Volumes): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/volumes",
      summary: "The team's volumes, newest first.",
      status: 200,
      answer: z.array(rest.Volume),
    },
    async ({ caller }) => (await volumes.list(caller)).map(show),
  );
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/volumes",
      summary: "Make an empty volume; sandboxes mount it by its name.",
      body: rest.CreateVolume,
      status: 201,
      answer: rest.Volume,
      codes: ["conflict", "no_hosts_available", "insufficient_storage", "host_unavailable", "agent_error"],
    },
    async ({ caller, body }) => show(await volumes.create(caller, body.name)),
  );
  endpoint(
    app,
    {
      method: "delete",
      path: "/v1/volumes/{volume}",
      summary:
        "Remove a volume, named by name or id, with every file in it. Sandboxes that have it mounted lose it at once.",
      status: 204,
      codes: ["not_found", "host_unavailable", "agent_error"],
    },
    async ({ caller, c }) => {
      const { id } = await volumes.called(caller, c.req.param("volume")!);
      await volumes.remove(caller, id);
    },
  );
}

const show = ({ id, name, hostId, createdAt }: VolumeRow): rest.Volume => ({
  ...{ id, name, host_id: hostId },
  created_at: createdAt.toISOString(),
});
