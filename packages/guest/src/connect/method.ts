import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { User } from "../users.ts";

/** What a method knows of its caller besides the message. */
export type Call = {
  /** The account the caller acts as: Basic authentication's user name, or the default. */
  readonly user: User;
  /** JSON or binary protocol buffers. */
  readonly json: boolean;
  /** The caller's deadline, ms from now. */
  readonly timeoutMs: number | undefined;
  /** A stream that is silent for so long sends a keep-alive event. */
  readonly keepaliveMs: number;
};

/** A stream of already encoded envelopes, pulled by the connection as fast as its reader takes them. */
export interface FrameSource {
  /** The envelopes that are ready, or `undefined` when there are none now. */
  take(): Uint8Array<ArrayBuffer> | undefined;
  /** True when nothing will come any more; what is ready may still be taken. */
  readonly ended: boolean;
  /** Set by the connection; called whenever there is something to take, or the end is reached. */
  onReady: () => void;
  /** A keep-alive event. */
  keepalive(): Uint8Array<ArrayBuffer>;
  /** Why the stream ends with an error, once it has ended; `undefined` when it ends well. */
  readonly failure: unknown;
  /** The connection is done with it, at its end or before; called once. */
  close(): void;
}

/** A method of one request and one response. */
export type Unary = {
  kind: "unary";
  input: DescMessage;
  output: DescMessage;
  run(request: never, call: Call): object | Promise<object>;
};

/** A method of one request and many responses. */
export type ServerStream = {
  kind: "server";
  input: DescMessage;
  run(request: never, call: Call): FrameSource | Promise<FrameSource>;
};

/** A method of many requests and one response. */
export type ClientStream = {
  kind: "client";
  input: DescMessage;
  output: DescMessage;
  run(requests: AsyncIterable<never>, call: Call): Promise<object>;
};

/** Any method. */
export type Method = Unary | ServerStream | ClientStream;

/** Declares a unary method; the types of `run` follow from the two schemas. */
export function unary<I extends DescMessage, O extends DescMessage>(
  input: I,
  output: O,
  run: (request: MessageShape<I>, call: Call) => MessageInitShape<O> | Promise<MessageInitShape<O>>,
): Unary {
  return { kind: "unary", input, output, run: run as Unary["run"] };
}

/** Declares a method whose responses are `run`'s frames. */
export function serverStream<I extends DescMessage>(
  input: I,
  run: (request: MessageShape<I>, call: Call) => FrameSource | Promise<FrameSource>,
): ServerStream {
  return { kind: "server", input, run: run as ServerStream["run"] };
}

/** Declares a method that reads many requests, in order, and then answers once. */
export function clientStream<I extends DescMessage, O extends DescMessage>(
  input: I,
  output: O,
  run: (requests: AsyncIterable<MessageShape<I>>, call: Call) => Promise<MessageInitShape<O>>,
): ClientStream {
  return { kind: "client", input, output, run: run as ClientStream["run"] };
}
