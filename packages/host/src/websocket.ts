import type { ServerWebSocket, WebSocketHandler } from "bun";

/** One bridged WebSocket: the guest's end, what that said before the other was there, and how activity is told. */
export type Bridge = {
  readonly upstream: WebSocket;
  readonly early: (string | ArrayBuffer)[];
  readonly begin: () => void;
  readonly end: () => void;
};

/** What one side may be behind, bytes; a reader slower than that is cut off, since frames cannot be held back singly. */
const maxBehindBytes = 16 << 20;

/** Close codes that an application may send (RFC 6455, 7.4); others mean that the peer just went. */
const sendable = (code: number): boolean => code === 1000 || (code >= 3000 && code <= 4999);

/** Connects to the guest's end. Throws when it does not answer as a WebSocket. */
export async function connectUpstream(
  url: string,
  request: Request,
  more: { tls?: { rejectUnauthorized: boolean } } = {},
): Promise<Pick<Bridge, "upstream" | "early">> {
  const protocols = request.headers.get("sec-websocket-protocol")?.split(/\s*,\s*/) ?? [];
  const passed = ["authorization", "cookie", "origin", "user-agent"].flatMap((name) => {
    const value = request.headers.get(name);
    return value === null ? [] : [[name, value]];
  });
  // Bun takes options where browsers, whose types are in force here, take protocols.
  const options = { protocols, headers: Object.fromEntries(passed), ...more } as unknown as string[];
  const upstream = new WebSocket(url, options);
  upstream.binaryType = "arraybuffer";
  const early: Bridge["early"] = [];
  upstream.onmessage = ({ data }) => void early.push(data as string | ArrayBuffer); // frames without a handler are lost
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  upstream.onopen = () => resolve();
  upstream.onerror = () => reject(new Error("the guest refused the WebSocket"));
  upstream.onclose = () => reject(new Error("the guest closed the WebSocket"));
  await promise;
  return { upstream, early };
}

/** Carries frames between the two ends until one closes; then the other is closed the same way. */
export const bridging: WebSocketHandler<Bridge> = {
  maxPayloadLength: maxBehindBytes,
  backpressureLimit: maxBehindBytes,
  closeOnBackpressureLimit: true,
  idleTimeout: 0,
  open(socket: ServerWebSocket<Bridge>) {
    const { upstream, early, begin } = socket.data;
    begin();
    for (const frame of early.splice(0)) socket.send(frame);
    upstream.onmessage = ({ data }) => void socket.send(data as string | ArrayBuffer);
    upstream.onclose = ({ code, reason }) => (sendable(code) ? socket.close(code, reason) : socket.terminate());
    upstream.onerror = () => socket.terminate();
    if (upstream.readyState !== WebSocket.OPEN) socket.terminate(); // it closed while this end was made
  },
  message({ data: { upstream } }, frame) {
    if (upstream.bufferedAmount > maxBehindBytes) upstream.close();
    else upstream.send(frame);
  },
  close({ data: { upstream, end } }, code, reason) {
    end();
    if (sendable(code)) upstream.close(code, reason);
    else upstream.close();
  },
};
