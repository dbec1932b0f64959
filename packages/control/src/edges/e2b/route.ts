import { type Code, httpStatus, parseSandboxId, type rest, type SandboxId, WrennError } from "@wrenn/contract";
import { type Context, Hono } from "hono";
import { z } from "zod";
import type { Log } from "../../log.ts";
import type { Caller } from "../../services/caller.ts";
import { absent } from "../../services/refusals.ts";
import { check, type Env, readJson } from "../endpoint.ts";
import { refusal } from "../refusal.ts";

/** Routes of the E2B dialect: as the Wrenn dialect's, but with errors as its clients read them. */
export type Routes = Hono<Env>;

/** Statuses that clients of this dialect expect where ours differ (E2B protocol, section 3). */
const statusOf: Partial<Record<Code, number>> = { timeout: 504, unimplemented: 400, command_not_found: 400 };

/** New routes, whose refusals are `{code, message}`. */
export function newRoutes(log: Log): Routes {
  const routes: Routes = new Hono<Env>();
  routes.onError((thrown, c) => refuse(c as Context<Env>, thrown, log));
  return routes;
}

function refuse(c: Context<Env>, thrown: unknown, log: Log): Response {
  return refusal(c, { thrown, log }, (error) => {
    const body = errorBody(error);
    return c.json(body, body.code as 400);
  });
}

/** An error as clients of this dialect read it. */
export const errorBody = ({ code, message, remedy }: WrennError): rest.e2b.ErrorBody => ({
  code: statusOf[code] ?? httpStatus[code],
  message: [message, remedy].filter(Boolean).join(" "),
});

/** A decoded request. */
export type Asked<B, Q> = { caller: Caller; body: B; query: Q; c: Context<Env> };
type Shape<B extends z.ZodType, Q extends z.ZodType> = { status?: 200 | 201 | 202 | 204; body?: B; query?: Q };

/** Adds a route. `on` is a method and a path in Hono's notation; nothing answered is 204. */
export function route<B extends z.ZodType = z.ZodUndefined, Q extends z.ZodType = z.ZodUndefined>(
  routes: Routes,
  on: string,
  { status = 200, body, query }: Shape<B, Q>,
  handle: (asked: Asked<z.output<B>, z.output<Q>>) => Promise<unknown>,
): void {
  const [method = "", path = ""] = on.split(" ");
  routes.on(method, path, async (c) => {
    const asked = {
      caller: c.get("caller"),
      body: body && check(body, await readJson(c.req.raw), "body"),
      query: query && check(query, c.req.query(), "query"),
      c,
    } as Asked<z.output<B>, z.output<Q>>;
    const answer = await handle(asked);
    if (answer instanceof Response) return answer;
    return answer === undefined ? c.body(null, 204) : c.json(answer, status as 200);
  });
}

/** The sandbox of a path. Throws `not_found` for an id of another shape: no such sandbox can exist. */
export function sandboxOf(c: Context<Env>): SandboxId {
  const text = c.req.param("id") ?? "";
  const id = parseSandboxId(text);
  if (id) return id;
  throw absent(text as SandboxId);
}

/** Most of anything that one answer lists. */
export const maxPage = 100;

/** The query of a list that goes on. */
export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(maxPage).default(maxPage),
  nextToken: z.string().optional(),
};

/** Names where the next page begins. */
export const nextToken = "X-Next-Token";

/** A token for the place after an item that was made at `createdAt`. */
export const tokenAfter = ({ createdAt, id }: { createdAt: Date; id: string }): string =>
  Buffer.from(`${createdAt.toISOString()} ${id}`).toString("base64url");

/** The place that a token names. Throws `invalid_request` for one that is not ours. */
export function readToken(token: string): { createdAt: Date; id: string } {
  const [time = "", id = ""] = Buffer.from(token, "base64url").toString("utf8").split(" ");
  const createdAt = new Date(time);
  if (id !== "" && !Number.isNaN(createdAt.getTime())) return { createdAt, id };
  throw new WrennError("invalid_request", "The nextToken is not one of ours.", {
    remedy: "Use the X-Next-Token of an earlier answer, unchanged.",
  });
}
