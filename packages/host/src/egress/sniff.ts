/** What a client says before anything was answered, as far as it names a host. */
export type Hello =
  | { readonly kind: "tls"; readonly name: string | undefined }
  | { readonly kind: "http"; readonly name: string | undefined }
  | { readonly kind: "other" };

/** A TLS record's content type and a handshake message's type (RFC 8446, sections 5.1 and 4). */
const handshakeRecord = 22;
const clientHello = 1;
const serverNameExtension = 0;
const hostNameType = 0;

/** Longest of each that is looked at: key shares of post-quantum kinds take some kilobytes, cookies sometimes many. */
const maxHelloBytes = 64 * 1024;

const requestLine = /^[A-Z]{3,20} [^\r\n]{0,16384} HTTP\/1\.[01]\r?\n/;

/**
 * Reads whom a client's first bytes are for: TLS names it in the handshake, HTTP in a header. `undefined`: more bytes are
 * needed. Never throws, whatever a guest sends.
 */
export function readHello(bytes: Buffer): Hello | undefined {
  if (bytes.length === 0) return undefined;
  return bytes[0] === handshakeRecord ? readTls(bytes) : readHttp(bytes);
}

function readTls(bytes: Buffer): Hello | undefined {
  const message = handshakeIn(bytes);
  if (message === "more") return bytes.length < maxHelloBytes ? undefined : { kind: "other" };
  if (message === "none") return { kind: "other" };
  try {
    return { kind: "tls", name: serverNameIn(message) };
  } catch {
    return { kind: "other" }; // lengths that lead out of the message
  }
}

/** The first handshake message, put together from the records it was cut into. */
function handshakeIn(bytes: Buffer): Buffer | "more" | "none" {
  const parts: Buffer[] = [];
  let have = 0;
  for (let at = 0; ; ) {
    if (have >= 4) {
      const whole = Buffer.concat(parts);
      if (whole[0] !== clientHello) return "none";
      const length = 4 + whole.readUIntBE(1, 3);
      if (length > maxHelloBytes) return "none";
      if (have >= length) return whole.subarray(0, length);
    }
    if (bytes.length < at + 5) return "more";
    if (bytes[at] !== handshakeRecord || bytes[at + 1] !== 3) return "none";
    const end = at + 5 + bytes.readUInt16BE(at + 3);
    parts.push(bytes.subarray(at + 5, Math.min(end, bytes.length)));
    have += parts.at(-1)!.length;
    if (bytes.length < end) {
      const isWhole = have >= 4 && have >= 4 + Buffer.concat(parts).readUIntBE(1, 3);
      if (!isWhole) return "more";
    }
    at = end;
  }
}

/** The host name of a ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3). Throws `RangeError` on a broken one. */
function serverNameIn(message: Buffer): string | undefined {
  let at = 4 + 2 + 32; // header, version, random
  at += 1 + message.readUInt8(at); // session id
  at += 2 + message.readUInt16BE(at); // cipher suites
  at += 1 + message.readUInt8(at); // compression methods
  if (at === message.length) return undefined; // no extensions
  const end = at + 2 + message.readUInt16BE(at);
  at += 2;
  while (at < end) {
    const [type, length] = [message.readUInt16BE(at), message.readUInt16BE(at + 2)];
    at += 4;
    if (type !== serverNameExtension) at += length;
    else if (message.readUInt8(at + 2) !== hostNameType) return undefined;
    else return plainName(message.toString("latin1", at + 5, at + 5 + message.readUInt16BE(at + 3)));
  }
  return undefined;
}

function readHttp(bytes: Buffer): Hello | undefined {
  const text = bytes.toString("latin1", 0, maxHelloBytes);
  if (!requestLine.test(text)) {
    const mayBecome = /^[A-Z]{1,20}( |$)/.test(text) && !text.includes("\n") && text.length < maxHelloBytes;
    return mayBecome ? undefined : { kind: "other" };
  }
  const end = /\r?\n\r?\n/.exec(text)?.index;
  if (end === undefined) return bytes.length < maxHelloBytes ? undefined : { kind: "other" };
  const hosts = [...text.slice(0, end).matchAll(/\nhost[ \t]*:([^\r\n]*)/gi)].map((match) => match[1]!.trim());
  // Two hosts, or a blank before the colon, are read differently by different servers.
  if (hosts.length !== 1 || /\nhost[ \t]+:/i.test(text.slice(0, end))) return { kind: "other" };
  return { kind: "http", name: plainName(hosts[0]!.replace(/:\d{1,5}$/, "")) };
}

/** A name in the one spelling that rules have; `undefined` for an address and for what is no name. */
export function plainName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  return /^(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/.test(name) && !/^[\d.]+$/.test(name) ? name : undefined;
}
