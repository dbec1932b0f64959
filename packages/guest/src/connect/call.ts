import { WrennError } from "@wrenn/contract/core";
import type { Identity } from "../identity/state.ts";
import type { User } from "../users.ts";
import type { Call } from "./method.ts";

/** Interval of keep-alive events when the caller does not name one: what clients of the E2B agent expect. */
const defaultKeepaliveMs = 90_000;

/** Longest delay a timer takes; a longer deadline is none. */
const maxTimerMs = 2 ** 31 - 1;

/** The account named by `Authorization: Basic base64("user:")`, or the default. Throws `unauthorized`. */
function callerOf(headers: Headers, identity: Identity): User {
  const header = headers.get("authorization");
  if (!header || !/^basic /i.test(header)) return identity.user("");
  const [name = ""] = Buffer.from(header.slice(6).trim(), "base64").toString().split(":", 1);
  return identity.user(name);
}

/** `Connect-Timeout-Ms`, at most ten digits; throws `invalid_request`. */
function timeoutOf(headers: Headers): number | undefined {
  const text = headers.get("connect-timeout-ms");
  if (text === null) return undefined;
  if (!/^\d{1,10}$/.test(text))
    throw new WrennError("invalid_request", `Connect-Timeout-Ms is not a number of milliseconds: '${text}'`, {
      remedy: "Send a whole number of at most ten digits.",
    });
  const ms = Number(text);
  return ms > maxTimerMs ? undefined : ms;
}

/** `Keepalive-Ping-Interval` in seconds, as ms; anything unusable means the default. */
function keepaliveOf(headers: Headers): number {
  const seconds = Number(headers.get("keepalive-ping-interval") ?? Number.NaN);
  return seconds >= 1 && seconds * 1000 <= maxTimerMs ? seconds * 1000 : defaultKeepaliveMs;
}

/** Everything a method knows of its caller. */
export function callOf(request: Request, identity: Identity, json: boolean): Call {
  const { headers } = request;
  return {
    user: callerOf(headers, identity),
    json,
    timeoutMs: timeoutOf(headers),
    keepaliveMs: keepaliveOf(headers),
  };
}
