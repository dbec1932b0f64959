/** The bytes from `start` to `end`, both included. */
export type Range = { start: number; end: number };

/**
 * Reads a `Range` header against a file of `size` bytes (RFC 9110, section 14.2). Malformed headers, other units and
 * several ranges are ignored, as the RFC allows: the answer is then the whole file.
 */
export function parseRange(header: string | null, size: number): Range | "unsatisfiable" | undefined {
  const match = header && /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header.trim());
  if (!match || (match[1] === "" && match[2] === "")) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? "unsatisfiable" : { start: size - length, end: size - 1 };
  }
  const start = Number(first);
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== "" && Number(last) < start) return undefined;
  return start >= size ? "unsatisfiable" : { start, end };
}
