import { type InitRequest, WrennError } from "@wrenn/contract/core";
import { findUser } from "../users.ts";

const invalid = (message: string) =>
  new WrennError("invalid_request", `invalid /init body: ${message}`, { remedy: "See InitRequest in the contract." });

/** Why a field's value cannot be used, or `undefined` when it can. */
const problems: Record<keyof InitRequest, (value: unknown) => string | undefined> = {
  accessToken: isText(4096),
  envVars: (value) => {
    if (value === null || typeof value !== "object" || Array.isArray(value)) return "is not an object";
    for (const [name, text] of Object.entries(value)) {
      if (!name || /[=\0]/.test(name)) return `holds the impossible name '${name}'`;
      if (typeof text !== "string" || text.includes("\0")) return `holds a value for '${name}' that is not text`;
    }
    return undefined;
  },
  defaultUser: isText(256),
  defaultWorkdir: isText(4096),
  timestamp: (value) => (nanosecondsOf(value) === undefined ? "is not an RFC 3339 time" : undefined),
  sandboxId: isText(128),
  templateId: isText(128),
  hostname: matches(/^(?=.{1,64}$)[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*$/),
  machineId: matches(/^[0-9a-f]{32}$/),
  rehearsal: (value) => (typeof value === "boolean" ? undefined : "is not true or false"),
  diskBytes: (value) => (Number.isSafeInteger(value) && (value as number) > 0 ? undefined : "is not a number of bytes"),
  caBundle: (value) =>
    typeof value === "string" &&
    value.length <= 1024 * 1024 &&
    /^\s*(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)*$/.test(value)
      ? undefined
      : "is not PEM certificates of at most 1 MiB",
  entropy: (value) =>
    typeof value === "string" && /^[A-Za-z0-9+/]{43,}={0,2}$/.test(value) && value.length <= 4096
      ? undefined
      : "is not the base64 of at least 32 bytes",
};

function isText(max: number) {
  return (value: unknown) =>
    typeof value === "string" && value.length <= max && !value.includes("\0") ? undefined : `is not text up to ${max}`;
}

function matches(pattern: RegExp) {
  return (value: unknown) => (typeof value === "string" && pattern.test(value) ? undefined : "has the wrong shape");
}

/** Reads the body of `POST /init`: an empty one asks for nothing. Throws `invalid_request` before anything changes. */
export function parseInit(text: string): InitRequest {
  if (text.trim() === "") return {};
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw new WrennError("invalid_request", "the /init body is not JSON", { remedy: "Send JSON.", cause });
  }
  if (body === null || typeof body !== "object" || Array.isArray(body)) throw invalid("it is not an object");
  const request: Record<string, unknown> = {};
  for (const [name, problem] of Object.entries(problems)) {
    const value = (body as Record<string, unknown>)[name];
    if (value === undefined || value === null) continue;
    const found = problem(value);
    if (found) throw invalid(`${name} ${found}`);
    request[name] = value;
  }
  if (request.defaultUser) knownUser(String(request.defaultUser));
  return request;
}

function knownUser(name: string): void {
  try {
    findUser(name);
  } catch (cause) {
    throw new WrennError("invalid_request", `defaultUser '${name}' does not exist in this image`, {
      remedy: "Name one of its users.",
      cause,
    });
  }
}

/** A time as nanoseconds since 1970: RFC 3339 with up to nine decimals, or seconds as text. Undefined when neither. */
export function nanosecondsOf(value: unknown): bigint | undefined {
  if (typeof value !== "string") return undefined;
  if (/^\d{1,12}$/.test(value)) return BigInt(value) * 1_000_000_000n;
  const match = /^(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)$/.exec(value);
  if (!match) return undefined;
  const [, whole = "", fraction = "", zone = ""] = match;
  const ms = Date.parse(`${whole.replace(" ", "T").toUpperCase()}${zone.toUpperCase()}`);
  return Number.isNaN(ms) ? undefined : BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}
