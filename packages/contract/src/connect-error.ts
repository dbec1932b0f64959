import { Code as ConnectCode, ConnectError } from "@connectrpc/connect";
import { type Code, isCode, WrennError } from "./errors.ts";
import { ErrorDetailSchema } from "./gen/hostagent/v1/hostagent_pb.ts";

/** E2B's clients read `resource_exhausted` as a rate limit, and tell their user to wait: nothing else is called so. */
const connectCode = {
  invalid_request: ConnectCode.InvalidArgument,
  invalid_token: ConnectCode.FailedPrecondition,
  already_activated: ConnectCode.FailedPrecondition,
  last_login_method: ConnectCode.FailedPrecondition,
  unauthorized: ConnectCode.Unauthenticated,
  wrong_password: ConnectCode.Unauthenticated,
  mfa_required: ConnectCode.Unauthenticated,
  forbidden: ConnectCode.PermissionDenied,
  csrf_required: ConnectCode.PermissionDenied,
  account_deactivated: ConnectCode.PermissionDenied,
  account_not_activated: ConnectCode.PermissionDenied,
  account_disabled: ConnectCode.PermissionDenied,
  not_found: ConnectCode.NotFound,
  provider_not_found: ConnectCode.NotFound,
  timeout: ConnectCode.DeadlineExceeded,
  invalid_state: ConnectCode.FailedPrecondition,
  conflict: ConnectCode.AlreadyExists,
  has_active_sandboxes: ConnectCode.FailedPrecondition,
  email_taken: ConnectCode.AlreadyExists,
  signup_cooldown: ConnectCode.AlreadyExists,
  owns_team_with_members: ConnectCode.FailedPrecondition,
  precondition_failed: ConnectCode.FailedPrecondition,
  too_large: ConnectCode.InvalidArgument,
  command_not_found: ConnectCode.InvalidArgument,
  rate_limited: ConnectCode.ResourceExhausted,
  quota_exceeded: ConnectCode.ResourceExhausted,
  internal_error: ConnectCode.Internal,
  unimplemented: ConnectCode.Unimplemented,
  agent_error: ConnectCode.Unknown,
  no_hosts_available: ConnectCode.Unavailable,
  host_unavailable: ConnectCode.Unavailable,
  unavailable: ConnectCode.Unavailable,
  insufficient_storage: ConnectCode.Internal,
} as const satisfies Record<Code, ConnectCode>;

/** What a peer's Connect code means when it sent no detail of ours, as the guest agent does. */
const plain: Partial<Record<ConnectCode, Code>> = {
  [ConnectCode.InvalidArgument]: "invalid_request",
  [ConnectCode.Unauthenticated]: "unauthorized",
  [ConnectCode.PermissionDenied]: "forbidden",
  [ConnectCode.NotFound]: "not_found",
  [ConnectCode.DeadlineExceeded]: "timeout",
  [ConnectCode.FailedPrecondition]: "conflict",
  [ConnectCode.AlreadyExists]: "conflict",
  [ConnectCode.Unimplemented]: "unimplemented",
  [ConnectCode.Unavailable]: "host_unavailable",
};

/** The error as a Connect error with one `ErrorDetail`; strangers become `internal_error` and keep their text in `cause`. */
export function toConnectError(thrown: unknown): ConnectError {
  const error = WrennError.from(thrown);
  const detail = { code: error.code, remedy: error.remedy ?? "", details: { ...error.details } };
  return new ConnectError(
    error.message,
    connectCode[error.code],
    undefined,
    [{ desc: ErrorDetailSchema, value: detail }],
    error.cause,
  );
}

/** The reverse of {@link toConnectError}; an error without our detail is mapped by its Connect code, else `agent_error`. */
export function fromConnectError(thrown: unknown): WrennError {
  if (thrown instanceof WrennError) return thrown;
  const error = ConnectError.from(thrown);
  const detail = error.findDetails(ErrorDetailSchema)[0];
  if (detail && isCode(detail.code))
    return new WrennError(detail.code, error.rawMessage, {
      remedy: detail.remedy || undefined,
      details: Object.keys(detail.details).length > 0 ? detail.details : undefined,
      cause: thrown,
    });
  return new WrennError(plain[error.code] ?? "agent_error", error.rawMessage, { cause: thrown });
}
