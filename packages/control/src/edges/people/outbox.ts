import { rest, WrennError } from "@wrenn/contract";
import { z } from "zod";
import { needAdmin } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import { type App, endpoint } from "../endpoint.ts";
import { isLoopback } from "./client.ts";

/** `/v1/dev/outbox`: mails of an installation without a mail server, for who sits at the machine, or administers it. */
export function openOutboxRoutes(app: App, { mailer, access }: Services): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/dev/outbox", access: "open", status: 200, answer: z.array(rest.OutboxMail) },
      summary:
        "Mails of an installation without a mail server, newest first; from this machine, or for administrators.",
      codes: ["not_found", "unauthorized", "forbidden"],
    },
    async ({ c }) => {
      if (mailer.sends)
        throw new WrennError("not_found", "This installation sends its mails.", { remedy: "Look in the mailbox." });
      if (!isLoopback(c)) needAdmin(await access.open(c.req.raw, c.get("requestId")));
      const mails = await mailer.outbox();
      return mails.map(({ createdAt, ...mail }) => ({ ...mail, created_at: createdAt.toISOString() }));
    },
  );
}
