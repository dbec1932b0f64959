import { Code, ConnectError } from "@connectrpc/connect";
import { fromConnectError, headers, WrennError } from "@wrenn/contract";

/** What a finished command leaves behind. */
export type CommandResult = {
  /** 0 to 255; -1 when a signal ended it. */
  exitCode: number;
  /** Standard output, decoded as UTF-8; empty when `collect` is false. */
  stdout: string;
  /** Standard error, decoded as UTF-8; empty when `collect` is false. */
  stderr: string;
  /** How it ended in the guest's words, such as `exit status 1` or `signal: killed`. */
  status: string;
  /** True when output beyond `maxOutputBytes` was dropped. */
  truncated: boolean;
};

/**
 * A command ended with an exit code other than 0.
 *
 * @example
 * ```ts
 * try {
 *   await sandbox.commands.run("exit 3");
 * } catch (error) {
 *   if (error instanceof CommandExitError) console.log(error.exitCode, error.stderr);
 * }
 * ```
 */
export class CommandExitError extends Error implements CommandResult {
  override readonly name = "CommandExitError";
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly status: string;
  readonly truncated: boolean;

  constructor(result: CommandResult) {
    const detail = result.stderr.trim().split("\n").at(-1);
    super(`command ended with ${result.status || `exit code ${result.exitCode}`}${detail ? `: ${detail}` : ""}`);
    this.exitCode = result.exitCode;
    this.stdout = result.stdout;
    this.stderr = result.stderr;
    this.status = result.status;
    this.truncated = result.truncated;
  }
}

/** Whether `thrown` is the abort of a signal, its time-out included, rather than an answer. */
export const isAbort = (thrown: unknown): boolean =>
  thrown instanceof Error && (thrown.name === "AbortError" || thrown.name === "TimeoutError");

/** The error of a request that never got an answer. */
export function unreachable(baseUrl: string, cause: unknown): WrennError {
  return new WrennError("host_unavailable", `no answer from ${baseUrl}`, {
    remedy: "Start the server with `wrenn up`, or point WRENN_BASE_URL at a running one.",
    cause,
  });
}

/** The error of a request whose time ran out. */
export function timedOut(what: string, timeoutMs: number | undefined, cause?: unknown): WrennError {
  const after = timeoutMs === undefined ? "" : ` after ${timeoutMs} ms`;
  return new WrennError("timeout", `${what} timed out${after}`, {
    remedy: "Give it more time with a larger time-out, or 0 for none.",
    cause,
  });
}

/** A WrennError for anything a call to the guest agent throws; the caller's own abort reason passes through unchanged. */
export function fromAgentError(thrown: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (!(thrown instanceof ConnectError)) return thrown;
  if (thrown.cause instanceof WrennError) return thrown.cause;
  if (thrown.code === Code.DeadlineExceeded) return timedOut("the call", undefined, thrown);
  return fromConnectError(thrown);
}

/** The error an answer carries: the server's own words where it sent them. */
export async function errorOf(response: Response): Promise<WrennError> {
  const text = await response.text().catch(() => "");
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  const error = WrennError.fromBody(body);
  if (error) return withRequestId(error, response.headers.get(headers.requestId));
  const message = (body as { message?: unknown } | undefined)?.message;
  const cause = typeof message === "string" ? message : `the server answered ${response.status}`;
  return new WrennError(codeOfStatus[response.status] ?? "agent_error", cause);
}

/** An internal error is explained by the server's log alone; the request's id finds the line. */
function withRequestId(error: WrennError, requestId: string | null): WrennError {
  if (error.code !== "internal_error" || requestId === null) return error;
  const details = { ...error.details, requestId };
  return new WrennError(error.code, error.message, { remedy: error.remedy, details });
}

/** What a status means when it came without an error of ours, as from the guest agent's file routes or a proxy. */
const codeOfStatus: Readonly<Record<number, WrennError["code"]>> = {
  400: "invalid_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  408: "timeout",
  409: "conflict",
  413: "too_large",
  429: "rate_limited",
  500: "internal_error",
  501: "unimplemented",
  503: "host_unavailable",
  507: "insufficient_storage",
};
