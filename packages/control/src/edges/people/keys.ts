import { rest } from "@wrenn/contract";
import { z } from "zod";
import { needPerson } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import type { KeyRow } from "../../store/keys.ts";
import { type App, endpoint } from "../endpoint.ts";

/** `/v1/api-keys` (Wrenn REST API 5). */
export function keyRoutes(app: App, { keys }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/api-keys", access: "person", status: 201 },
      ...{ body: rest.CreateApiKey, answer: rest.NewApiKey },
      summary: "Make an API key of the team; it is shown this once.",
    },
    async ({ caller, body }): Promise<rest.NewApiKey> => {
      const { row, key } = await keys.create(needPerson(caller), body);
      return { ...show(row), key };
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/api-keys", access: "person", status: 200, answer: z.array(rest.ApiKey) },
      summary: "The team's API keys, newest first; members see those they made.",
    },
    async ({ caller }) => (await keys.list(needPerson(caller))).map(show),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/api-keys/{key}", access: "person", status: 204 },
      summary: "End an API key; it is well if there is none.",
      codes: ["forbidden"],
    },
    async ({ caller, c }) => keys.revoke(needPerson(caller), c.req.param("key")!),
  );
}

const show = (row: KeyRow): rest.ApiKey => ({
  id: row.id,
  team_id: row.teamId,
  name: row.name,
  key_prefix: row.keyPrefix,
  ...(row.createdBy !== null && { created_by: row.createdBy }),
  ...(row.creatorEmail !== null && { creator_email: row.creatorEmail }),
  ...(row.scopes !== null && { scopes: row.scopes.split(" ") as rest.Scope[] }),
  created_at: row.createdAt.toISOString(),
  ...(row.lastUsedAt && { last_used: row.lastUsedAt.toISOString() }),
  ...(row.expiresAt && { expires_at: row.expiresAt.toISOString() }),
});
