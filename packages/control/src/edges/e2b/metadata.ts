import { WrennError } from "@wrenn/contract";

/**
 * Reads the metadata filter of a list: pairs that a sandbox must have (E2B protocol, section 3). Clients encode each key
 * and value, form-encode the pairs, and encode the whole as one query parameter; `text` is that parameter, decoded once.
 */
export function readMetadata(text: string): Record<string, string> {
  const pairs = text.split("&").filter((pair) => pair !== "");
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 0) throw malformed();
      return [plain(pair.slice(0, at)), plain(pair.slice(at + 1))];
    }),
  );
}

/** Form-decoded, then percent-decoded. */
function plain(text: string): string {
  try {
    return decodeURIComponent(decodeURIComponent(text.replaceAll("+", " ")));
  } catch {
    throw malformed();
  }
}

const malformed = () =>
  new WrennError("invalid_request", "The metadata filter is malformed.", {
    remedy: "Send key=value pairs joined by &, percent-encoded.",
  });
