import { rest } from "@wrenn/contract";
import type { Context } from "hono";
import { z } from "zod";
import type { Secrets } from "../../services/e2b/secrets.ts";
import type { SecretRow } from "../../store/schema/index.ts";
import type { Env } from "../endpoint.ts";
import { nextToken, pageQuery, type Routes, readToken, route, tokenAfter } from "./route.ts";

const ListQuery = z.object(pageQuery);

/** `/secrets`: what is known of a team's secrets, beside their values. */
export function secretRoutes(routes: Routes, secrets: Secrets): void {
  route(routes, "GET /secrets", { query: ListQuery }, async ({ caller, query: { limit, nextToken: token }, c }) => {
    const rows = await secrets.list(caller, { limit: limit + 1, after: token ? readToken(token) : undefined });
    if (rows.length > limit) c.header(nextToken, tokenAfter(rows[limit - 1]!));
    return rows.slice(0, limit).map(present);
  });
  route(routes, "POST /secrets", { status: 201, body: rest.e2b.NewSecret }, async ({ caller, body }) =>
    present(await secrets.create(caller, body)),
  );
  route(routes, "GET /secrets/:secret", {}, async ({ caller, c }) => present(await secrets.get(caller, secretOf(c))));
  route(routes, "POST /secrets/:secret", { body: rest.e2b.SecretUpdate }, async ({ caller, body, c }) =>
    present(await secrets.update(caller, secretOf(c), body)),
  );
  route(routes, "DELETE /secrets/:secret", {}, ({ caller, c }) => secrets.remove(caller, secretOf(c)));
}

const secretOf = (c: Context<Env>): string => c.req.param("secret")!;

const present = ({ id, name, currentVersion, metadata, ...times }: SecretRow): rest.e2b.Secret => ({
  secretID: id,
  name,
  currentVersion,
  metadata,
  createdAt: times.createdAt.toISOString(),
  updatedAt: times.updatedAt.toISOString(),
});
