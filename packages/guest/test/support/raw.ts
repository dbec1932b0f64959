import { connect, type Socket } from "node:net";

/** A Connect envelope. */
export function envelope(message: object | string, flags = 0): Buffer<ArrayBuffer> {
  const bytes = Buffer.from(typeof message === "string" ? message : JSON.stringify(message));
  const framed = Buffer.alloc(5 + bytes.length);
  framed[0] = flags;
  framed.writeUInt32BE(bytes.length, 1);
  framed.set(bytes, 5);
  return framed;
}

// biome-ignore lint/suspicious/noExplicitAny: the tests read whatever JSON the agent sends
type Json = any;

/** Cuts envelopes out of the pieces of a stream's body. */
function envelopeParser(onMessage: (json: Json, flags: number) => void): (bytes: Uint8Array) => void {
  let held: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  return (bytes) => {
    held = held.length ? Buffer.concat([held, bytes]) : Buffer.from(bytes);
    while (held.length >= 5 && held.length >= 5 + held.readUInt32BE(1)) {
      const end = 5 + held.readUInt32BE(1);
      onMessage(JSON.parse(held.toString("utf8", 5, end)), held[0]!);
      held = held.subarray(end);
    }
  };
}

/** All messages of a stream's body. */
export async function envelopesOf(response: Response): Promise<{ flags: number; json: Json }[]> {
  const found: { flags: number; json: Json }[] = [];
  envelopeParser((json, flags) => found.push({ flags, json }))(new Uint8Array(await response.arrayBuffer()));
  return found;
}

/** A streaming call by hand. */
export const callStream = (at: string, body: Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  fetch(at, { method: "POST", body, headers: { "Content-Type": "application/connect+json", ...headers } });

/** A unary call by hand. */
export const callUnary = (at: string, body: object | string, headers: Record<string, string> = {}) =>
  fetch(at, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    headers: { "Content-Type": "application/json", ...headers },
  });

/** A connection that has sent a request and reads nothing until it is resumed. */
export async function slowReader(url: string, request: string, body: Uint8Array = new Uint8Array()): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.pause();
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.write(`${request}\r\nHost: ${hostname}\r\nContent-Length: ${body.length}\r\n\r\n`);
  socket.write(body);
  return socket;
}

/** Reads the answer on `socket`, which is a stream of envelopes in HTTP's chunked coding. */
export function streamReader(socket: Socket, onMessage: (json: Json) => void): void {
  const parse = envelopeParser(onMessage);
  let held: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  let inBody = false;
  socket.on("data", (bytes: Buffer) => {
    held = held.length ? Buffer.concat([held, bytes]) : bytes;
    if (!inBody) {
      held = held.subarray(held.indexOf("\r\n\r\n") + 4);
      inBody = true;
    }
    for (;;) {
      const line = held.indexOf("\r\n");
      const size = line < 0 ? Number.NaN : Number.parseInt(held.toString("latin1", 0, line), 16);
      if (!(held.length >= line + 4 + size)) return;
      parse(held.subarray(line + 2, line + 2 + size));
      held = held.subarray(line + 4 + size);
    }
  });
  socket.resume();
}
