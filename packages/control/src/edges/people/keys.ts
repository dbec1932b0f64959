import { rest } from "@wrenn/contract";
import { z } from "zod";
import { needPerson } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import type { KeyRow } from "../../store/keys.ts";
import { type App, endpoint, type Input } from "../endpoint.ts";

const one = "/v1/api-keys/{key}";
/** What of a key somebody decides; when it was last used happens by itself. */
const decided = ({ last_used: _, ...rest }: rest.ApiKey) => rest;

/** `/v1/api-keys` (Wrenn REST API 5). */
export function keyRoutes(app: App, { keys }: Services): void {
  // To end a key that there is not is well, but not as another version of it.
  const known = async ({ caller, c }: Pick<Input<unknown, unknown>, "caller" | "c">) => {
    const row = await keys.find(needPerson(caller), c.req.param("key")!);
    return row ? decided(show(row)) : null;
  };
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
      ...{ method: "get", path: one, access: "person", status: 200, answer: rest.ApiKey, codes: ["not_found"] },
      summary: "An API key of the team; members see those they made.",
      tagged: decided,
    },
    async ({ caller, c }) => show(await keys.get(needPerson(caller), c.req.param("key")!)),
  );
  endpoint(
    app,
    {
      ...{ method: "patch", path: one, access: "person", status: 200, body: rest.UpdateApiKey, answer: rest.ApiKey },
      summary: "Give an API key another name.",
      codes: ["not_found"],
      ...{ tagged: decided, changes: known },
    },
    async ({ caller, body, c }) => show(await keys.rename(needPerson(caller), c.req.param("key")!, body.name)),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: one, access: "person", status: 204 },
      summary: "End an API key; it is well if there is none.",
      codes: ["forbidden"],
      changes: known,
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
