/** The little of the Connect protocol that a bare client of the guest agent needs (connectrpc.com, "Protocol Reference"). */

/** Encodings of a stream of events. */
export type Encoding = "json" | "proto";

/** Headers of a stream. `user` is who the process runs as; the guest's default without. */
export function streamHeaders(encoding: Encoding, user?: string, token?: string): Record<string, string> {
  return {
    "Content-Type": `application/connect+${encoding}`,
    "Connect-Protocol-Version": "1",
    ...(user === undefined ? {} : { Authorization: `Basic ${btoa(`${user}:`)}` }),
    ...(token === undefined ? {} : { "X-Access-Token": token }),
  };
}

/** The body of a `Start`: one envelope with the request. */
export function startBody(encoding: Encoding, cmd: string, args: readonly string[] = []): Uint8Array {
  const message =
    encoding === "json"
      ? Buffer.from(JSON.stringify({ process: { cmd, args }, stdin: false }))
      : // StartRequest.process = 1 (ProcessConfig.cmd = 1, .args = 2), StartRequest.stdin = 4.
        Buffer.concat([
          field(1, Buffer.concat([field(1, cmd), ...args.map((arg) => field(2, arg))])),
          Buffer.of(32, 0),
        ]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function field(number: number, value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as Buffer);
  const length: number[] = [];
  let rest = bytes.length;
  for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128);
  return Buffer.concat([Buffer.of((number << 3) | 2, ...length, rest), bytes]);
}

const headerBytes = 5;
const endOfStream = 2;

/** Cuts a stream into envelopes and counts the standard output in them, without building an object for each. */
export class OutputCounter {
  /** Bytes of standard output. */
  stdout = 0;
  /** Whether an end event with exit code 0 and the end of the stream, without an error, have come. */
  ended = false;
  readonly #parts: Buffer[] = [];
  #have = 0;
  /** Bytes without which nothing more can be read: joining parts earlier would copy a large envelope many times. */
  #need = headerBytes;
  #exited = false;

  constructor(readonly encoding: Encoding) {}

  /** Takes bytes of the stream, cut anywhere. */
  readonly take = (bytes: Uint8Array): void => {
    this.#parts.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    this.#have += bytes.byteLength;
    const data =
      this.#have < this.#need ? undefined : this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    if (!data) {
      this.#parts.push(Buffer.from(this.#parts.pop()!)); // a copy: the socket uses its buffer again
      return;
    }
    let at = 0;
    this.#need = headerBytes;
    while (data.length - at >= headerBytes) {
      const length = data.readUInt32BE(at + 1);
      this.#need = headerBytes + length;
      if (data.length - at < this.#need) break;
      this.#count(data[at]!, data.subarray(at + headerBytes, at + this.#need));
      at += this.#need;
      this.#need = headerBytes;
    }
    this.#parts.length = 0;
    this.#have = data.length - at;
    if (this.#have > 0) this.#parts.push(Buffer.from(data.subarray(at)));
  };

  /** Throws unless the process ended well after exactly `bytes` of standard output. */
  expect(bytes: number): void {
    if (!this.ended) throw new Error("the stream ended without an end event of exit code 0");
    if (this.stdout !== bytes) throw new Error(`${this.stdout} bytes of standard output came, ${bytes} were written`);
  }

  #count(flags: number, message: Buffer): void {
    if ((flags & endOfStream) !== 0) {
      const text = message.toString();
      if (text.includes('"error"')) throw new Error(`the stream ended with an error: ${text}`);
      this.ended = this.#exited;
    } else if (this.encoding === "json") this.#countJson(message);
    else this.#countProto(message);
  }

  #countJson(message: Buffer): void {
    const key = message.indexOf('"stdout":"');
    if (key >= 0 && key < 64) {
      const first = key + 10;
      const last = message.lastIndexOf('"');
      const padding = message[last - 1] === 0x3d ? (message[last - 2] === 0x3d ? 2 : 1) : 0;
      this.stdout += ((last - first) / 4) * 3 - padding;
    } else {
      const { end } = (JSON.parse(message.toString()) as { event?: { end?: { exitCode?: number } } }).event ?? {};
      if (end) this.#exited = (end.exitCode ?? 0) === 0;
    }
  }

  /** StartResponse.event = 1, ProcessEvent.data = 2 and .end = 3, DataEvent.stdout = 1, EndEvent.exit_code = 1. */
  #countProto(message: Buffer): void {
    const event = inside(message, 1);
    const data = event && inside(event, 2);
    if (data) this.stdout += inside(data, 1)?.length ?? 0;
    const end = event && inside(event, 3);
    if (end) this.#exited = end[0] !== 8 || end[1] === 0;
  }
}

/** The contents of a message whose first field is `number` and holds bytes; `undefined` for any other. */
function inside(message: Buffer, number: number): Buffer | undefined {
  if (message[0] !== ((number << 3) | 2)) return undefined;
  let length = 0;
  let at = 1;
  for (let shift = 0; ; shift += 7) {
    const byte = message[at++]!;
    length |= (byte & 127) << shift;
    if (byte < 128) break;
  }
  return message.subarray(at, at + length);
}
