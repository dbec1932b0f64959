/**
 * The closed set of error codes, shared by every process, and the one table that turns a code into an HTTP status.
 * Codes that existing Wrenn clients know keep their names.
 */
export const codes = [
  "invalid_request",
  "invalid_token",
  "already_activated",
  "last_login_method",
  "unauthorized",
  "wrong_password",
  "mfa_required",
  "forbidden",
  "csrf_required",
  "account_deactivated",
  "account_not_activated",
  "account_disabled",
  "not_found",
  "provider_not_found",
  "timeout",
  "invalid_state",
  "conflict",
  "has_active_sandboxes",
  "email_taken",
  "signup_cooldown",
  "owns_team_with_members",
  "precondition_failed",
  "too_large",
  "command_not_found",
  "rate_limited",
  "quota_exceeded",
  "internal_error",
  "unimplemented",
  "agent_error",
  "no_hosts_available",
  "host_unavailable",
  "unavailable",
  "insufficient_storage",
] as const;

/** One of {@link codes}. */
export type Code = (typeof codes)[number];

/** HTTP status of each code. */
export const httpStatus = {
  invalid_request: 400,
  invalid_token: 400,
  already_activated: 400,
  last_login_method: 400,
  unauthorized: 401,
  wrong_password: 401,
  mfa_required: 401,
  forbidden: 403,
  csrf_required: 403,
  account_deactivated: 403,
  account_not_activated: 403,
  account_disabled: 403,
  not_found: 404,
  provider_not_found: 404,
  timeout: 408,
  invalid_state: 409,
  conflict: 409,
  has_active_sandboxes: 409,
  email_taken: 409,
  signup_cooldown: 409,
  owns_team_with_members: 409,
  precondition_failed: 412,
  too_large: 413,
  command_not_found: 422,
  rate_limited: 429,
  quota_exceeded: 429,
  internal_error: 500,
  unimplemented: 501,
  agent_error: 502,
  no_hosts_available: 503,
  host_unavailable: 503,
  unavailable: 503,
  insufficient_storage: 507,
} as const satisfies Record<Code, number>;

/** Names of errors that the system or the runtime gives: words, which tell nothing of anybody's data. */
const systemName = /^[A-Z][A-Za-z_]{2,47}$/;

/** A cause that the other side told of. */
class Told extends Error {}

/** What an error carries besides code and message; every value is text so that all three wires can hold it. */
export type ErrorParts = {
  /** What the reader can do about it: one sentence, imperative. */
  remedy?: string | undefined;
  /** Facts for programs, such as the id and the state found. */
  details?: Readonly<Record<string, string>> | undefined;
  /** The original, for the log. Callers are told of it only what {@link WrennError.behind} says. */
  cause?: unknown;
};

/** The error envelope of the REST API: `{"error": {...}}`. */
export type ErrorBody = {
  error: {
    code: Code;
    message: string;
    /** What stands behind it: another error's message, or the system's name of one such as `ECONNREFUSED`. */
    cause?: string;
    remedy?: string;
    details?: Readonly<Record<string, string>>;
    /** Under which the server's log tells more. */
    request_id?: string;
  };
};

/** The only error that crosses a process boundary. `message` names the cause in one sentence, `remedy` the way out. */
export class WrennError extends Error {
  override readonly name = "WrennError";
  readonly code: Code;
  readonly remedy: string | undefined;
  readonly details: Readonly<Record<string, string>> | undefined;

  constructor(code: Code, message: string, parts: ErrorParts = {}) {
    super(message, parts.cause === undefined ? undefined : { cause: parts.cause });
    this.code = code;
    this.remedy = parts.remedy;
    this.details = parts.details;
  }

  /** HTTP status of this error's code. */
  get status(): (typeof httpStatus)[Code] {
    return httpStatus[this.code];
  }

  /** What stands behind it, as far as a caller may know: another of our errors, or the system's name of one. */
  get behind(): string | undefined {
    for (let at = this.cause; at instanceof Error; at = at.cause) {
      if (at instanceof Told || (at instanceof WrennError && at.message !== this.message)) return at.message;
      const { code } = at as { code?: unknown };
      if (typeof code === "string" && systemName.test(code)) return code;
    }
    return undefined;
  }

  toJSON(): ErrorBody {
    const { code, message, behind, remedy, details } = this;
    const more = { ...(behind && { cause: behind }), ...(remedy && { remedy }), ...(details && { details }) };
    return { error: { code, message, ...more } };
  }

  /** Anything thrown becomes a WrennError; a stranger becomes `internal_error` and keeps its text in `cause`, for the log. */
  static from(thrown: unknown): WrennError {
    if (thrown instanceof WrennError) return thrown;
    return new WrennError("internal_error", "internal error", {
      remedy: "Look for this request's id in the server's log; if it repeats, report it.",
      cause: thrown,
    });
  }

  /** Rebuilds the error from a REST body, or `undefined` when the body is not an error envelope. */
  static fromBody(body: unknown): WrennError | undefined {
    const error = (body as Partial<ErrorBody> | null)?.error;
    if (!error || typeof error.message !== "string" || !isCode(error.code)) return undefined;
    const cause = typeof error.cause === "string" ? new Told(error.cause) : undefined;
    return new WrennError(error.code, error.message, { remedy: error.remedy, details: error.details, cause });
  }
}

/** Whether `text` is one of {@link codes}. */
export const isCode = (text: unknown): text is Code => (codes as readonly unknown[]).includes(text);
