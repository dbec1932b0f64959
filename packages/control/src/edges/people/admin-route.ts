import type { z } from "zod";
import { needAdmin } from "../../services/access.ts";
import type { Person } from "../../services/people/sessions.ts";
import { type App, type Endpoint, endpoint, type Input } from "../endpoint.ts";

/** What a route of administrators is handed: who asks, as a person, and the last id of its path. */
type AdminInput<B, Q> = Input<B, Q> & { by: Person; named: string };
/** A route below `/v1/admin` that answers 200, or 204 where it has no answer. */
type AdminRoute<B extends z.ZodType, Q extends z.ZodType> = Omit<Endpoint<B, Q>, "path" | "status" | "access"> & {
  /** Below `/v1/admin`. */
  at: string;
  status?: 200 | 201 | 204;
};

/** Adds a route that is for administrators of the installation alone. */
export function adminRoute<B extends z.ZodType, Q extends z.ZodType>(
  app: App,
  { at, status, ...spec }: AdminRoute<B, Q>,
  handle: (input: AdminInput<z.output<B>, z.output<Q>>) => Promise<unknown>,
): void {
  const parameter = [...at.matchAll(/\{(\w+)\}/g)].at(-1)?.[1];
  endpoint<B, Q>(
    app,
    { ...spec, path: `/v1/admin${at}`, status: status ?? (spec.answer ? 200 : 204), access: "admin" },
    (input) =>
      handle({
        ...input,
        by: needAdmin(input.caller),
        named: parameter === undefined ? "" : input.c.req.param(parameter)!,
      }),
  );
}
