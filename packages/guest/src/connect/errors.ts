import { Code as ConnectCode, type ConnectError } from "@connectrpc/connect";
import { codeToString, errorToJson } from "@connectrpc/connect/protocol-connect";
import { toConnectError } from "@wrenn/contract/wire";

/*
 * Imported when the first error is answered: the schemas it needs cost a megabyte of memory and some start-up time.
 */

/** HTTP status of a failed unary call (Connect protocol, "Error codes"). */
const statusOf: Partial<Record<ConnectCode, number>> = {
  [ConnectCode.Canceled]: 499,
  [ConnectCode.InvalidArgument]: 400,
  [ConnectCode.DeadlineExceeded]: 504,
  [ConnectCode.NotFound]: 404,
  [ConnectCode.AlreadyExists]: 409,
  [ConnectCode.PermissionDenied]: 403,
  [ConnectCode.ResourceExhausted]: 429,
  [ConnectCode.FailedPrecondition]: 400,
  [ConnectCode.Unimplemented]: 501,
  [ConnectCode.Unavailable]: 503,
  [ConnectCode.Unauthenticated]: 401,
};

/** Strangers are written to the log with their cause: the caller learns only `internal error`. */
function report(error: ConnectError): ConnectError {
  if (error.code === ConnectCode.Internal && error.cause) console.error(error.cause);
  return error;
}

/** The error object of Connect's JSON: `{"code","message","details"}`, plus what a stream's last message needs. */
export function errorBody(thrown: unknown): { status: number; json: Record<string, unknown> } {
  const error = report(toConnectError(thrown));
  const json = errorToJson(error, undefined) as Record<string, unknown>;
  return { status: statusOf[error.code] ?? 500, json: { ...json, code: codeToString(error.code) } };
}
