import type { WrennError } from "@wrenn/contract";
import type { Context } from "hono";
import type { Log } from "../log.ts";
import { asWrennError } from "../store/database.ts";
import type { Env } from "./endpoint.ts";

/** What proxies log for a client that did not wait; nobody reads it. */
const clientGone = 499;

/** The answer to a request that failed, noted in the log and with `Retry-After`; `said` writes it in the client's dialect. */
export function refusal(
  c: Context<Env>,
  { thrown, log }: { thrown: unknown; log: Log },
  said: (error: WrennError) => Response,
): Response {
  if (c.req.raw.signal.aborted) return new Response(null, { status: clientGone });
  const error = asWrennError(thrown);
  const fields = { requestId: c.get("requestId"), code: error.code, err: error };
  if (error.status >= 500) log.error(fields, "request failed");
  else log.debug(fields, "request refused");
  const wait = error.details?.retry_after_sec;
  if (wait !== undefined) c.header("Retry-After", wait);
  return said(error);
}
