import { rest } from "@wrenn/contract";
import { z } from "zod";
import { type Commands, selectorOf } from "../services/commands.ts";
import { type App, endpoint } from "./endpoint.ts";

/** What a guest or its host may answer besides. */
const guestCodes = ["forbidden", "invalid_state", "unimplemented", "host_unavailable", "agent_error"] as const;
const Signal = z.object({ signal: z.enum(["SIGKILL", "SIGTERM"]).default("SIGKILL") });

/** `/v1/capsules/{id}/exec` and `/processes`. */
export function commandRoutes(app: App, commands: Commands): void {
  endpoint(
    app,
    {
      method: "post",
      path: "/v1/capsules/{id}/exec",
      summary: "Run a command; with `background` it is left running and the answer is 202.",
      body: rest.ExecRequest,
      status: 200,
      answer: z.union([rest.ExecResult, rest.BackgroundResult]),
      codes: [...guestCodes, "timeout", "command_not_found"],
    },
    async ({ caller, id, body, c }) => {
      if (body.background) return c.json(await commands.background(caller, id, body), 202);
      return await commands.exec(caller, id, body, c.req.raw.signal);
    },
  );
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/{id}/processes",
      summary: "The processes started through the API.",
      status: 200,
      answer: rest.ProcessList,
      codes: guestCodes,
    },
    async ({ caller, id }) => ({ processes: await commands.list(caller, id) }),
  );
  endpoint(
    app,
    {
      method: "delete",
      path: "/v1/capsules/{id}/processes/{selector}",
      summary: "Send a signal to a process, named by its pid or tag.",
      query: Signal,
      status: 204,
      codes: guestCodes,
    },
    async ({ caller, id, query, c }) => commands.signal(caller, id, selectorOf(c.req.param("selector")!), query.signal),
  );
}
