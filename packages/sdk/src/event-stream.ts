import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { endStreamFromJson } from "@connectrpc/connect/protocol-connect";
import { processes } from "@wrenn/contract";

/**
 * Reads a stream of process events (Connect protocol, "streaming" requests and responses) with no copy of the output.
 * The general client copies each message twice and builds four objects for it: with it, 100 MiB of output take twice as
 * long. Only the shape output has is read here; every other message goes through the general decoder.
 */

/** One event of a process; the bytes of output are a view of what the network gave. */
export type ProcessEvent = processes.ProcessEvent["event"];

const endOfStream = 0b10;
const headerBytes = 5;

/** The guest sends pieces of at most 64 KiB; a guest that announces gigabytes must not make this program wait for them. */
const maxMessageBytes = 16 * 1024 * 1024;

/** The request of a stream as one Connect envelope. */
export function envelope<D extends DescMessage>(schema: D, request: MessageShape<D>): Uint8Array<ArrayBuffer> {
  const message = toBinary(schema, request);
  const framed = new Uint8Array(headerBytes + message.byteLength);
  new DataView(framed.buffer).setUint32(1, message.byteLength);
  framed.set(message, headerBytes);
  return framed;
}

/** The events of an answer, in order. Throws the ConnectError with which the guest ended the stream. */
export async function* processEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ProcessEvent, undefined> {
  const reader = body.getReader();
  const splitter = new Splitter();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new ConnectError("the stream ended in the middle", Code.DataLoss);
      splitter.add(value);
      for (let framed = splitter.next(); framed; framed = splitter.next()) {
        if (framed.flags & endOfStream) return finish(framed.message);
        yield decode(framed.message);
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function finish(message: Uint8Array): undefined {
  const { error } = endStreamFromJson(message);
  if (error) throw error;
}

type Framed = { flags: number; message: Uint8Array };

/** Cuts envelopes out of chunks; a message that lies within one chunk is a view of it. */
class Splitter {
  #rest: Uint8Array = new Uint8Array();
  #parts: Uint8Array[] = [];
  #waiting = 0;

  add(chunk: Uint8Array): void {
    this.#parts.push(chunk);
    this.#waiting -= chunk.byteLength;
  }

  /** The next whole envelope, or `undefined` until more has come. */
  next(): Framed | undefined {
    if (this.#waiting > 0) return undefined;
    if (this.#parts.length > 0) this.#rest = joined([this.#rest, ...this.#parts.splice(0)]);
    const { buffer, byteOffset, byteLength } = this.#rest;
    if (byteLength < headerBytes) return undefined;
    const length = new DataView(buffer, byteOffset).getUint32(1);
    if (length > maxMessageBytes) throw new ConnectError(`a message of ${length} bytes`, Code.ResourceExhausted);
    const end = headerBytes + length;
    this.#waiting = Math.max(0, end - byteLength);
    if (this.#waiting > 0) return undefined;
    const framed = { flags: this.#rest[0]!, message: this.#rest.subarray(headerBytes, end) };
    this.#rest = this.#rest.subarray(end);
    return framed;
  }
}

/** One array of all parts; no copy when only one of them holds anything. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const filled = parts.filter((part) => part.byteLength > 0);
  if (filled.length <= 1) return filled[0] ?? new Uint8Array();
  const whole = new Uint8Array(filled.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of filled) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

// Tags of protocol buffers: field number << 3 | 2 (length-delimited). Field numbers are those of process.proto.
const eventTag = (1 << 3) | 2;
const dataTag = (2 << 3) | 2;
const streams = { [(1 << 3) | 2]: "stdout", [(2 << 3) | 2]: "stderr", [(3 << 3) | 2]: "pty" } as const;

/** A message `{event: {data: {stdout | stderr | pty: bytes}}}` without a copy, any other one by the general decoder. */
function decode(message: Uint8Array): ProcessEvent {
  const data = inside(inside(message, eventTag), dataTag);
  const stream = streams[data?.[0] as keyof typeof streams];
  const value = stream && inside(data, data![0]!);
  if (value) return { case: "data", value: output(stream, value as Uint8Array<ArrayBuffer>) };
  const { event } = fromBinary(processes.StartResponseSchema, message);
  return event?.event ?? { case: undefined };
}

const output = (
  stream: "stdout" | "stderr" | "pty",
  value: Uint8Array<ArrayBuffer>,
): processes.ProcessEvent_DataEvent => ({
  $typeName: "process.ProcessEvent.DataEvent",
  output: { case: stream, value },
});

/** The content of a message that is one length-delimited field with this tag and nothing else. */
function inside(message: Uint8Array | undefined, tag: number): Uint8Array | undefined {
  if (!message || message[0] !== tag) return undefined;
  let length = 0;
  for (let at = 1, shift = 0; at < message.byteLength && shift < 28; at++, shift += 7) {
    const byte = message[at]!;
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) return at + 1 + length === message.byteLength ? message.subarray(at + 1) : undefined;
  }
  return undefined;
}
