import { createHmac } from "node:crypto";
import type { SandboxId } from "@wrenn/contract";

/**
 * What the guest agent of a sandbox asks its callers for. Clients of the E2B dialect hold it and sign file URLs with it;
 * it is derived from one secret, so that no table holds it and every replica knows it.
 */
export const agentTokens =
  (secret: Buffer) =>
  (id: SandboxId): string =>
    createHmac("sha256", secret).update(`agent\n${id}`).digest("base64url");

/** The signature of a file URL (E2B protocol, section 7): what the guest agent will compute from the same query. */
export function signatureOf(query: URLSearchParams, operation: "read" | "write", token: string): string {
  const expiry = query.get("signature_expiration");
  const parts = [query.get("path") ?? "", operation, query.get("username") ?? "", token];
  const text = (expiry === null ? parts : [...parts, expiry]).join(":");
  return `v1_${new Bun.CryptoHasher("sha256").update(text).digest("base64").replace(/=+$/, "")}`;
}
