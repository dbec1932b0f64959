import { WrennError } from "@wrenn/contract/core";

/** Headers of one part; a browser sends less than 1 KiB. */
const maxHeaderBytes = 16 * 1024;

const carriageReturn = 0x0d; // the first byte of every delimiter

/** One part of a form: its content is read with `read` until `undefined`, before the next part is asked for. */
export type Part = {
  readonly name: string;
  /** The full file name, with directories, as it was sent. */
  readonly filename: string | undefined;
  read(): Promise<Uint8Array | undefined>;
};

type Source = { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> };

const malformed = (what: string) =>
  new WrennError("invalid_request", `the multipart body is malformed: ${what}`, {
    remedy: "Send multipart/form-data as RFC 7578 describes it.",
  });

/** The boundary of a `multipart/form-data` content type; throws `invalid_request`. */
export function boundaryOf(contentType: string): string {
  const match = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;]{1,70}))/i.exec(contentType);
  const boundary = match?.[1] ?? match?.[2];
  if (!boundary) throw malformed("the content type names no boundary");
  return boundary;
}

/**
 * Reads a form as it arrives. Content is handed on in the pieces it came in, so a part of any size needs no more memory
 * than one piece.
 */
export class MultipartReader {
  /** Starts with the line break that an opening boundary lacks, so that every boundary looks the same. */
  #held: Buffer = Buffer.from("\r\n");
  /** True at first: the text before the first boundary is skipped as if it were a part. */
  #inPart = true;
  readonly #delimiter: Buffer;

  constructor(
    readonly source: Source,
    boundary: string,
  ) {
    this.#delimiter = Buffer.from(`\r\n--${boundary}`);
  }

  /** The next part, after what is left of the last one was skipped; `undefined` at the end. Throws `invalid_request`. */
  async next(): Promise<Part | undefined> {
    while (this.#inPart) await this.#content();
    const closing = await this.#boundaryTail();
    if (closing) return undefined;
    const headers = await this.#headers();
    this.#inPart = true;
    const disposition = headers.get("content-disposition") ?? "";
    const name = parameter(disposition, "name");
    if (!/^form-data\b/i.test(disposition) || name === undefined) throw malformed("a part has no name");
    const read = () => this.#content();
    return { name, filename: parameter(disposition, "filename"), read };
  }

  /** The next piece of the current part; `undefined` once its boundary was reached. */
  async #content(): Promise<Uint8Array | undefined> {
    while (this.#inPart) {
      const at = this.#held.indexOf(this.#delimiter);
      if (at >= 0) {
        this.#inPart = false;
        return this.#take(at, this.#delimiter.length);
      }
      const safe = this.#held.length - this.#tail();
      if (safe > 0) return this.#take(safe, 0);
      await this.#fill("it ends inside a part");
    }
    return undefined;
  }

  /** How many held bytes may be the beginning of a delimiter: usually none, and the next piece needs no copying. */
  #tail(): number {
    const from = Math.max(0, this.#held.length - this.#delimiter.length + 1);
    const at = this.#held.subarray(from).indexOf(carriageReturn);
    return at < 0 ? 0 : this.#held.length - from - at;
  }

  #take(length: number, skip: number): Buffer | undefined {
    const piece = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length + skip);
    return length === 0 ? undefined : piece;
  }

  /** Reads what follows a boundary: `--` closes the form, a line break opens a part. */
  async #boundaryTail(): Promise<boolean> {
    while (this.#held.length < 2) await this.#fill("it ends at a boundary");
    if (this.#held[0] === 0x2d && this.#held[1] === 0x2d) return true;
    for (let end = this.#held.indexOf("\r\n"); ; end = this.#held.indexOf("\r\n")) {
      if (end >= 0) {
        if (this.#held.subarray(0, end).toString("latin1").trim() !== "") throw malformed("text follows a boundary");
        this.#held = this.#held.subarray(end); // kept: headers may be empty
        return false;
      }
      if (this.#held.length > maxHeaderBytes) throw malformed("a boundary line has no end");
      await this.#fill("it ends at a boundary");
    }
  }

  async #headers(): Promise<Map<string, string>> {
    let end = this.#held.indexOf("\r\n\r\n");
    for (; end < 0; end = this.#held.indexOf("\r\n\r\n")) {
      if (this.#held.length > maxHeaderBytes) throw malformed("the headers of a part are too long");
      await this.#fill("it ends inside the headers of a part");
    }
    const lines = this.#held.subarray(2, Math.max(2, end)).toString("utf8").split("\r\n");
    this.#held = this.#held.subarray(end + 4);
    const headers = new Map<string, string>();
    for (const line of lines) {
      const colon = line.indexOf(":");
      if (line && colon < 1) throw malformed("a header of a part has no colon");
      if (line) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
    }
    return headers;
  }

  async #fill(problem: string): Promise<void> {
    const { done, value } = await this.source.read();
    if (done || !value) throw malformed(problem);
    this.#held =
      this.#held.length === 0
        ? Buffer.from(value.buffer, value.byteOffset, value.length)
        : Buffer.concat([this.#held, value]);
  }
}

/** A parameter of a `Content-Disposition`, quoted (with the escapes of browsers), extended (RFC 5987) or bare. */
function parameter(disposition: string, name: string): string | undefined {
  const extended = new RegExp(`;\\s*${name}\\*=(?:utf-8)?'[^']*'([^;\\s]+)`, "i").exec(disposition);
  if (extended) return decodePercent(extended[1]!);
  const match = new RegExp(`;\\s*${name}=(?:"((?:\\\\.|[^"\\\\])*)"|([^;\\s]*))`, "i").exec(disposition);
  if (!match) return undefined;
  if (match[1] === undefined) return match[2];
  return match[1]
    .replace(/\\(["\\])/g, "$1")
    .replace(/%22/g, '"')
    .replace(/%0A/gi, "\n")
    .replace(/%0D/gi, "\r");
}

function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw malformed("a file name is not valid UTF-8");
  }
}
