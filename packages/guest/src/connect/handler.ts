import { WrennError } from "@wrenn/contract/core";
import type { Identity } from "../identity/state.ts";
import { callOf } from "./call.ts";
import { checkEncoding, contentType, decode, decompress, encode, type Format, formatOf } from "./codec.ts";
import { deadlineError } from "./deadline.ts";
import { type Envelope, EnvelopeReader, encodeEnvelope, flag, maxMessageBytes } from "./envelope.ts";
import type { Call, ClientStream, Method, ServerStream, Unary } from "./method.ts";
import { endFrame, failureFrame, streamResponse } from "./stream.ts";

/** Answers one Connect request for `method`. */
export async function handle(method: Method, request: Request, identity: Identity): Promise<Response> {
  if (request.method !== "POST") return new Response(null, { status: 405, headers: { Allow: "POST" } });
  const format = formatOf(request.headers.get("content-type"));
  if (!format || format.stream !== (method.kind !== "unary")) return new Response(null, { status: 415 });
  try {
    const call = callOf(request, identity, format.json);
    if (method.kind === "unary") return await answerUnary(method, request, call);
    if (method.kind === "server") return await answerStream(method, request, call);
    return await answerClientStream(method, request, call);
  } catch (thrown) {
    return await failed(thrown, format);
  }
}

/** The answer for a method that its service does not have; clients take a plain 404 for something else. */
export function unknownMethod(path: string, request: Request): Promise<Response> {
  const format = formatOf(request.headers.get("content-type")) ?? { json: true, stream: false };
  return failed(new WrennError("unimplemented", `no such method: ${path}`, { remedy: "Update the agent." }), format);
}

async function failed(thrown: unknown, format: Format): Promise<Response> {
  if (format.stream)
    return new Response(await failureFrame(thrown), { headers: { "Content-Type": contentType(format) } });
  const { errorBody } = await import("./errors.ts");
  const { status, json } = errorBody(thrown);
  return Response.json(json, { status });
}

async function answerUnary(method: Unary, request: Request, call: Call): Promise<Response> {
  const encoding = checkEncoding(request.headers.get("content-encoding"));
  const body = await readBody(request);
  const message = decode(method.input, encoding === "gzip" ? await decompress(body) : body, call.json);
  const result = await withDeadline(call, method.run(message as never, call));
  return new Response(encode(method.output, result, call.json), {
    headers: { "Content-Type": contentType({ json: call.json, stream: false }) },
  });
}

async function answerStream(method: ServerStream, request: Request, call: Call): Promise<Response> {
  const compressed = checkEncoding(request.headers.get("connect-content-encoding"));
  const reader = new EnvelopeReader();
  reader.push(await readBody(request));
  const envelope = reader.next();
  reader.finish();
  if (!envelope || envelope.flags & flag.end)
    throw new WrennError("invalid_request", "the stream holds no message", { remedy: "Send exactly one message." });
  const source = await method.run(decode(method.input, await plain(envelope, compressed), call.json) as never, call);
  return streamResponse(source, call);
}

async function answerClientStream(method: ClientStream, request: Request, call: Call): Promise<Response> {
  const result = await withDeadline(call, method.run(messages(method, request, call), call));
  const message = encodeEnvelope(flag.data, encode(method.output, result, call.json));
  return new Response(Buffer.concat([message, endFrame()]), {
    headers: { "Content-Type": contentType({ json: call.json, stream: true }) },
  });
}

/** The messages of a client stream, in order, each as soon as it is whole. */
async function* messages(method: ClientStream, request: Request, call: Call): AsyncGenerator<never> {
  const compressed = checkEncoding(request.headers.get("connect-content-encoding"));
  const reader = new EnvelopeReader();
  for await (const piece of request.body ?? []) {
    reader.push(piece as Uint8Array);
    for (let envelope = reader.next(); envelope; envelope = reader.next()) {
      if (envelope.flags & flag.end) return; // Connect clients end by closing the body; some send this as well
      yield decode(method.input, await plain(envelope, compressed), call.json) as never;
    }
  }
  reader.finish();
}

async function plain({ flags, message }: Envelope, encoding: "identity" | "gzip"): Promise<Uint8Array> {
  if (!(flags & flag.compressed)) return message;
  if (encoding === "gzip") return decompress(message);
  throw new WrennError("invalid_request", "a message is flagged as compressed, but no compression was announced", {
    remedy: "Send the header Connect-Content-Encoding.",
  });
}

async function readBody(request: Request): Promise<Uint8Array> {
  const tooLarge = () =>
    new WrennError("too_large", `the message is over the limit of ${maxMessageBytes} bytes`, {
      remedy: "Send it in smaller messages, or upload it as a file.",
    });
  const announced = request.headers.get("content-length");
  if (announced !== null) {
    if (Number(announced) > maxMessageBytes) throw tooLarge();
    return request.bytes();
  }
  const parts: Uint8Array[] = [];
  let held = 0;
  for await (const piece of request.body ?? []) {
    held += (piece as Uint8Array).length;
    if (held > maxMessageBytes) throw tooLarge();
    parts.push(piece as Uint8Array);
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** Rejects with `timeout` when the caller's deadline passes first; the work itself goes on. */
function withDeadline<T>(call: Call, work: T | Promise<T>): T | Promise<T> {
  if (call.timeoutMs === undefined || !(work instanceof Promise)) return work;
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(deadlineError()), call.timeoutMs);
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}
