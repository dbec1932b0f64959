import { WrennError } from "@wrenn/contract/core";

const headerPrefix = "x-metadata-";

/** Limits of E2B protocol section 7. */
const limits = { keyBytes: 246, totalBytes: 4096 };

/** The metadata that an upload's `X-Metadata-*` headers name, keys in lower case. Throws `invalid_request`. */
export function metadataOf(headers: Headers): Record<string, string> {
  const metadata: Record<string, string> = {};
  let total = 0;
  for (const [name, value] of headers) {
    if (!name.startsWith(headerPrefix)) continue;
    const key = name.slice(headerPrefix.length);
    total += key.length + value.length;
    if (key === "" || key.length > limits.keyBytes || total > limits.totalBytes)
      throw invalid(`a key has 1 to ${limits.keyBytes} characters and all together ${limits.totalBytes}`);
    if (!/^[\x20-\x7e]*$/.test(value) || !/^[\x21-\x7e]+$/.test(key)) throw invalid("only printable ASCII is allowed");
    metadata[key] = value;
  }
  return metadata;
}

const invalid = (message: string) =>
  new WrennError("invalid_request", `invalid file metadata: ${message}`, { remedy: "Shorten or re-encode it." });
