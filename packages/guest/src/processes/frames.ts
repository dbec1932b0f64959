import { create, toBinary } from "@bufbuild/protobuf";
import { processes } from "@wrenn/contract/wire";
import { encodeEnvelope, flag, headerBytes } from "../connect/envelope.ts";
import type { End } from "./signals.ts";

/** Where a piece of output came from: the names of the wire's `DataEvent`. */
export type Channel = "stdout" | "stderr" | "pty";

/**
 * Encodes process events as envelopes. Written by hand, since nearly all bytes this agent ever sends pass here; the
 * shapes are those of `StartResponse` and `ConnectResponse`, which are the same message.
 */
export interface FrameEncoder {
  start(pid: number): Uint8Array<ArrayBuffer>;
  data(channel: Channel, bytes: Buffer): Uint8Array<ArrayBuffer>;
  end(end: End): Uint8Array<ArrayBuffer>;
  keepalive(): Uint8Array<ArrayBuffer>;
}

const jsonPrefix = {
  stdout: Buffer.from('{"event":{"data":{"stdout":"'),
  stderr: Buffer.from('{"event":{"data":{"stderr":"'),
  pty: Buffer.from('{"event":{"data":{"pty":"'),
} as const;
const jsonSuffix = Buffer.from('"}}}');

const jsonFrame = (event: object) => encodeEnvelope(flag.data, JSON.stringify({ event }));

/** Events as proto3 JSON. */
export const jsonFrames: FrameEncoder = {
  start: (pid) => jsonFrame({ start: { pid } }),
  data(channel, bytes) {
    const prefix = jsonPrefix[channel];
    const text = bytes.toString("base64");
    const length = prefix.length + text.length + jsonSuffix.length;
    const frame = Buffer.allocUnsafeSlow(headerBytes + length);
    frame[0] = flag.data;
    frame.writeUInt32BE(length, 1);
    frame.set(prefix, headerBytes);
    frame.write(text, headerBytes + prefix.length, "latin1");
    frame.set(jsonSuffix, headerBytes + prefix.length + text.length);
    return frame;
  },
  end: ({ exitCode, exited, status, error }) =>
    // proto3 JSON leaves out what equals its default
    jsonFrame({ end: { exitCode: exitCode || undefined, exited: exited || undefined, status, error } }),
  keepalive: () => jsonFrame({ keepalive: {} }),
};

const channelField = { stdout: 1, stderr: 2, pty: 3 } as const;
const lengthDelimited = 2;
const tag = (field: number) => (field << 3) | lengthDelimited;
const eventField = 1; // StartResponse.event
const dataField = 2; // ProcessEvent.data

const varintBytes = (value: number) => (value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4);

function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let rest = value;
  let at = offset;
  for (; rest >= 0x80; rest >>>= 7) target[at++] = (rest & 0x7f) | 0x80;
  target[at++] = rest;
  return at;
}

type EventInit = Parameters<typeof create<typeof processes.ProcessEventSchema>>[1];

const binaryFrame = (event: EventInit) => {
  const message = create(processes.StartResponseSchema, { event: create(processes.ProcessEventSchema, event) });
  return encodeEnvelope(flag.data, toBinary(processes.StartResponseSchema, message));
};

/** Events as binary protocol buffers. */
export const binaryFrames: FrameEncoder = {
  start: (pid) => binaryFrame({ event: { case: "start", value: { pid } } }),
  data(channel, bytes) {
    const output = 1 + varintBytes(bytes.length) + bytes.length;
    const data = 1 + varintBytes(output) + output;
    const length = 1 + varintBytes(data) + data;
    const frame = Buffer.allocUnsafeSlow(headerBytes + length);
    frame[0] = flag.data;
    frame.writeUInt32BE(length, 1);
    let at = headerBytes;
    for (const [field, size] of [
      [eventField, data],
      [dataField, output],
      [channelField[channel], bytes.length],
    ] as const) {
      frame[at] = tag(field);
      at = writeVarint(frame, at + 1, size);
    }
    frame.set(bytes, at);
    return frame;
  },
  end: ({ exitCode, exited, status, error }) =>
    binaryFrame({ event: { case: "end", value: { exitCode, exited, status, ...(error ? { error } : {}) } } }),
  keepalive: () => binaryFrame({ event: { case: "keepalive", value: {} } }),
};
