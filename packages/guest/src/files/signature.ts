import { WrennError } from "@wrenn/contract/core";
import { type Identity, sameText } from "../identity/state.ts";

/** What a signed URL lets its holder do. */
export type Operation = "read" | "write";

/** The signature of E2B protocol section 7: `v1_` and the unpadded base64 SHA-256 of the joined parts. */
export function sign(parts: readonly (string | number)[]): string {
  const digest = new Bun.CryptoHasher("sha256").update(parts.join(":")).digest("base64");
  return `v1_${digest.replace(/=+$/, "")}`;
}

/**
 * Lets a `/files` request pass when no token is set, when it carries the token, or when its URL is signed for exactly
 * this path, operation and user. Throws `unauthorized`.
 */
export function authorizeFile(
  request: Request,
  query: URLSearchParams,
  operation: Operation,
  identity: Identity,
): void {
  const token = request.headers.get("x-access-token");
  if (identity.accessToken === "") return;
  if (token !== null) {
    if (identity.accepts(token)) return;
    throw unauthorized("access token present in header but does not match");
  }
  const given = query.get("signature");
  if (given === null) throw unauthorized("missing signature query parameter");
  const expiry = query.get("signature_expiration");
  const parts = [query.get("path") ?? "", operation, query.get("username") ?? "", identity.accessToken];
  const wanted = sign(expiry === null ? parts : [...parts, expiry]);
  if (!sameText(given, wanted)) throw unauthorized("invalid signature");
  if (expiry !== null && !(Number(expiry) >= Date.now() / 1000)) throw unauthorized("signature is already expired");
}

const unauthorized = (message: string) =>
  new WrennError("unauthorized", message, { remedy: "Send the sandbox's token, or ask for a new signed URL." });
