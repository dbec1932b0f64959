import { type ErrorBody, headers, type WrennError } from "@wrenn/contract";
import { asWrennError } from "../store/database.ts";

/** A request id that a caller may give: enough for any tracing system's, nothing that could forge a log line. */
const requestIdPattern = /^[\w.:-]{1,128}$/;

/** The request's id: the caller's own, or a new one. */
export const requestIdOf = (request: Request): string => {
  const given = request.headers.get(headers.requestId);
  return given && requestIdPattern.test(given) ? given : crypto.randomUUID();
};

/** The envelope of an error, with the id under which the log tells more. */
export const envelope = (error: WrennError, requestId: string): ErrorBody => ({
  error: { ...error.toJSON().error, request_id: requestId },
});

/** The answer to a request for a WebSocket that is not upgraded. */
export function notUpgraded(thrown: unknown, requestId: string): Response {
  const error = asWrennError(thrown);
  return Response.json(envelope(error, requestId), {
    status: error.status,
    headers: { [headers.requestId]: requestId },
  });
}
