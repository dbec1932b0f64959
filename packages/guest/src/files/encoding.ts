/** What a download can be sent as. */
export type Encoding = "identity" | "gzip";

/**
 * The better of the encodings that `Accept-Encoding` allows (RFC 9110, section 12.5.3), or `undefined` when it allows
 * none that we have. A byte range is one of the file, so it is sent as it is.
 */
export function chooseEncoding(header: string | null, wantsRange: boolean): Encoding | undefined {
  if (header === null || header.trim() === "") return "identity";
  const weights = new Map<string, number>();
  for (const item of header.toLowerCase().split(",")) {
    const [name = "", ...parameters] = item.split(";").map((part) => part.trim());
    const q = parameters.find((parameter) => parameter.startsWith("q="));
    weights.set(name, q === undefined ? 1 : Number(q.slice(2)) || 0);
  }
  const any = weights.get("*");
  const gzip = weights.get("gzip") ?? weights.get("x-gzip") ?? any ?? 0;
  const identity = weights.get("identity") ?? any;
  if (wantsRange && identity !== 0) return "identity";
  if (gzip > 0 && gzip >= (weights.get("identity") ?? 0)) return "gzip";
  return identity === 0 ? undefined : "identity";
}
