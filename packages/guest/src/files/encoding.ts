/** What a download can be sent as. */
export type Encoding = "identity" | "gzip";

/** Whether the answer must not be sent as it is: a client that has forbidden it. */
export const refusesIdentity = (header: string | null): boolean => chooseEncoding(header, true) !== "identity";

/** Smaller files gain nothing; in an emulated guest larger ones arrive later compressed than plain. */
const worthwhile = { fromBytes: 1024, emulatedToBytes: 256 * 1024 };

const sampleBytes = 64 * 1024;
const isEmulated = process.env.WRENN_EMULATED === "1";

/** Whether compressing the file of `size` bytes saves more time than it takes, by its size and a look at its start. */
export async function isWorthCompressing(file: Blob, size: number): Promise<boolean> {
  if (size < worthwhile.fromBytes || (isEmulated && size > worthwhile.emulatedToBytes)) return false;
  const sample = await file.slice(0, sampleBytes).bytes();
  return Bun.gzipSync(sample, { level: fastest }).length < sample.length * 0.8;
}

/** zlib's first level: a quarter of the default's time, for a tenth more bytes. */
export const fastest = 1;

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
