import { WrennError } from "@wrenn/contract";
import { z } from "zod";

/** The request header of a change that shall be made only to what was read. */
export const IfMatch = z.object({
  "If-Match": z.string().optional().meta({ description: "The `ETag` that was read: 412 when it has changed since." }),
});

/** The entity tag of what is shown: the same for the same content (RFC 9110, section 8.8.3). */
export const tagOf = (shown: unknown): string =>
  `"${new Bun.CryptoHasher("sha256").update(JSON.stringify(shown)).digest("base64url").slice(0, 22)}"`;

/** An answer with the entity tag of the part of it that somebody decides; what happens by itself is not in it. */
export const weaklyTagged = (shown: unknown, part: unknown): Response =>
  Response.json(shown, { headers: { etag: `W/${tagOf(part)}`, "cache-control": "no-store" } });

/** An answer with its entity tag; 304 when the caller has it already. */
export function tagged(have: string | undefined, shown: unknown): Response {
  const etag = tagOf(shown);
  const kept = { etag, "cache-control": "private, no-cache" };
  if (have !== undefined && (have === "*" || names(have, etag)))
    return new Response(null, { status: 304, headers: kept });
  return Response.json(shown, { headers: kept });
}

/** Throws `precondition_failed` when a change was made for another version of `shown` than there is. */
export function needMatch(wanted: string | undefined, shown: unknown): void {
  if (wanted === undefined || wanted === "*" || names(wanted, tagOf(shown))) return;
  throw new WrennError("precondition_failed", "It has changed since it was read.", {
    remedy: "Read it again, and repeat the change with its new ETag.",
  });
}

const names = (list: string, etag: string): boolean =>
  list.split(",").some((one) => one.trim().replace(/^W\//, "") === etag);
