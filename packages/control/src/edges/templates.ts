import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Fleet } from "../hosts/fleet.ts";
import { type App, endpoint } from "./endpoint.ts";
import { template } from "./present.ts";

const Query = z.object({ type: z.enum(["base", "snapshot"]).optional() });

/** `/v1/snapshots`: what sandboxes can be created from. */
export function templateRoutes(app: App, fleet: Fleet): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/snapshots",
      summary: "List the templates.",
      query: Query,
      status: 200,
      answer: z.array(rest.Template),
      codes: ["no_hosts_available", "host_unavailable"],
    },
    async ({ query }) => {
      const found = (await fleet.templates(fleet.place())).map(template);
      return found.filter(({ type }) => query.type === undefined || query.type === type);
    },
  );
}
