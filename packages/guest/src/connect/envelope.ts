import { WrennError } from "@wrenn/contract/core";

/** Flag bits of an envelope (Connect protocol, "Streaming RPCs"). */
export const flag = { data: 0, compressed: 1, end: 2 } as const;

/** Bytes before each message: flags, and the length as a big-endian 32-bit number. */
export const headerBytes = 5;

/** A message of this many bytes or more is refused; the largest inputs are file contents, which do not come this way. */
export const maxMessageBytes = 64 * 1024 * 1024;

/** One message of a stream. */
export type Envelope = { flags: number; message: Uint8Array };

/** An envelope around `message`. */
export function encodeEnvelope(flags: number, message: Uint8Array | string): Uint8Array<ArrayBuffer> {
  const bytes = typeof message === "string" ? Buffer.from(message) : message;
  const framed = Buffer.allocUnsafeSlow(headerBytes + bytes.length);
  framed[0] = flags;
  framed.writeUInt32BE(bytes.length, 1);
  framed.set(bytes, headerBytes);
  return framed;
}

/** Cuts a stream of bytes into envelopes, whatever the pieces it arrives in. Throws `invalid_request` or `too_large`. */
export class EnvelopeReader {
  #parts: Uint8Array[] = [];
  #held = 0;

  /** Adds the next piece; its bytes are not copied until an envelope is complete. */
  push(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#parts.push(piece);
    this.#held += piece.length;
  }

  /** The next whole envelope, or `undefined` when more bytes are needed. */
  next(): Envelope | undefined {
    if (this.#held < headerBytes) return undefined;
    const header = this.#peek(headerBytes);
    const length = new DataView(header.buffer, header.byteOffset).getUint32(1);
    if (length > maxMessageBytes)
      throw new WrennError("too_large", `a message of ${length} bytes is over the limit of ${maxMessageBytes}`, {
        remedy: "Send it in smaller messages, or upload it as a file.",
      });
    const flags = header[0]!;
    if (flags > (flag.compressed | flag.end))
      throw new WrennError("invalid_request", `unknown envelope flags ${flags}`, {
        remedy: "Speak Connect's framing.",
      });
    if (this.#held < headerBytes + length) return undefined;
    const whole = this.#peek(headerBytes + length);
    this.#drop(headerBytes + length);
    return { flags, message: whole.subarray(headerBytes) };
  }

  /** Throws when the stream ended inside an envelope. */
  finish(): void {
    if (this.#held > 0)
      throw new WrennError("invalid_request", `the stream ended ${this.#held} bytes into an unfinished envelope`, {
        remedy: "Send the whole message that its header announces.",
      });
  }

  /** The first `length` held bytes in one piece. */
  #peek(length: number): Uint8Array {
    if (this.#parts[0]!.length < length) this.#parts = [Buffer.concat(this.#parts)];
    return this.#parts[0]!.subarray(0, length);
  }

  #drop(length: number): void {
    const rest = this.#parts[0]!.subarray(length);
    if (rest.length > 0) this.#parts[0] = rest;
    else this.#parts.shift();
    this.#held -= length;
  }
}
