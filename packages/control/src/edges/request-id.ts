import { headers } from "@wrenn/contract";

/** A request id that a caller may give: enough for any tracing system's, nothing that could forge a log line. */
const requestIdPattern = /^[\w.:-]{1,128}$/;

/** The request's id: the caller's own, or a new one. */
export const requestIdOf = (request: Request): string => {
  const given = request.headers.get(headers.requestId);
  return given && requestIdPattern.test(given) ? given : crypto.randomUUID();
};
