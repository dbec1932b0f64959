import {
  create,
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonValue,
  type MessageShape,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { WrennError } from "@wrenn/contract/core";
import { maxMessageBytes } from "./envelope.ts";

/** What a request's content type says. */
export type Format = { json: boolean; stream: boolean };

const formats: Readonly<Record<string, Format>> = {
  "application/json": { json: true, stream: false },
  "application/proto": { json: false, stream: false },
  "application/connect+json": { json: true, stream: true },
  "application/connect+proto": { json: false, stream: true },
};

/** The content type a response in `format` carries. */
export const contentType = ({ json, stream }: Format): string =>
  `application/${stream ? "connect+" : ""}${json ? "json" : "proto"}`;

/** Reads a content type; `undefined` when Connect does not know it. Parameters such as `charset` are ignored. */
export function formatOf(header: string | null): Format | undefined {
  if (header === null) return undefined;
  return formats[header] ?? formats[header.split(";", 1)[0]!.trim().toLowerCase()];
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** Decodes one message; throws `invalid_request`. Unknown JSON fields are ignored: newer clients send them. */
export function decode<T extends DescMessage>(schema: T, bytes: Uint8Array, json: boolean): MessageShape<T> {
  try {
    if (!json) return fromBinary(schema, bytes);
    if (bytes.length === 0) return create(schema);
    return fromJson(schema, JSON.parse(decoder.decode(bytes)) as JsonValue, { ignoreUnknownFields: true });
  } catch (cause) {
    throw new WrennError("invalid_request", `the request is not a ${schema.typeName} message: ${reason(cause)}`, {
      remedy: "Send the message in the encoding that the content type names.",
      cause,
    });
  }
}

const reason = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause));

/** Encodes one message. */
export function encode<T extends DescMessage>(schema: T, message: object, json: boolean): Uint8Array<ArrayBuffer> {
  const whole = create(schema, message as never);
  return json
    ? Buffer.from(JSON.stringify(toJson(schema, whole)))
    : (toBinary(schema, whole) as Uint8Array<ArrayBuffer>);
}

/** Throws `unimplemented` when `encoding` is not one that {@link decompress} undoes. */
export function checkEncoding(encoding: string | null): "identity" | "gzip" {
  if (encoding === null || encoding === "" || encoding === "identity") return "identity";
  if (encoding === "gzip") return "gzip";
  throw new WrennError("unimplemented", `unknown compression "${encoding}": supported encodings are gzip, identity`, {
    remedy: "Send the message with gzip or uncompressed.",
  });
}

/** Undoes gzip; throws `invalid_request`, also when the result would exceed {@link maxMessageBytes}. */
export async function decompress(bytes: Uint8Array): Promise<Uint8Array> {
  const { gunzipSync } = await import("node:zlib"); // 8 MiB of memory that few agents ever need
  try {
    return gunzipSync(bytes, { maxOutputLength: maxMessageBytes });
  } catch (cause) {
    throw new WrennError("invalid_request", `the message cannot be decompressed: ${reason(cause)}`, {
      remedy: `Send gzip that unpacks to at most ${maxMessageBytes} bytes.`,
      cause,
    });
  }
}
