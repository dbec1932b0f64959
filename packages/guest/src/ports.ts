import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import type { Socket } from "bun";

/** State 0A of `/proc/net/tcp` (Linux, include/net/tcp_states.h). */
const listening = "0A";

/** Addresses in `/proc/net/tcp`, hexadecimal in host byte order. */
const loopback = { v4: "0100007F", v6: "00000000000000000000000001000000" };

/** Relays that this agent listens with, by port. */
const relays = new Map<number, Bun.TCPSocketListener<Side>>();

/** What one end of a relay writes to: the other end, and what that could not take yet. */
type Side = { other: Socket<Side> | undefined; waiting: Uint8Array[] };

/**
 * Makes `port` reachable from the host: what listens on every address is already, what listens on the loopback only gets
 * a relay on the guest's own address. False when nothing listens.
 */
export function openPort(port: number): boolean {
  const addresses = listeners(port);
  const own = ownAddress();
  const isOutside = addresses.some((address) => address !== loopback.v4 && address !== loopback.v6);
  if (relays.has(port)) return isOutside && addresses.length > 1; // one of them is the relay itself
  if (addresses.length === 0) return false;
  if (isOutside || !own) return true;
  const target = addresses.includes(loopback.v4) ? "127.0.0.1" : "::1";
  relays.set(port, Bun.listen<Side>({ hostname: own, port, socket: relayTo(target, port) }));
  return true;
}

/** Ends every relay. */
export function closePorts(): void {
  for (const relay of relays.values()) relay.stop(true);
  relays.clear();
}

/** Whether something listens on `port`, on whatever address. */
export const isListening = (port: number): boolean => listeners(port).length > 0;

/** The local addresses on which something listens on `port`. */
function listeners(port: number): string[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  return ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((table) => {
    const rows = readFileSync(table, "latin1").split("\n").slice(1);
    return rows.flatMap((row) => {
      const [, local = "", , state] = row.trim().split(/\s+/);
      const [address = "", at] = local.split(":");
      return state === listening && at === wanted ? [address] : [];
    });
  });
}

const ownAddress = (): string | undefined =>
  Object.values(networkInterfaces())
    .flat()
    .find((one) => one?.family === "IPv4" && !one.internal)?.address;

const pass = (side: Side, bytes: Uint8Array): void => {
  if (!side.other || side.waiting.length > 0) {
    side.waiting.push(bytes.slice());
    return;
  }
  const sent = Math.max(0, side.other.write(bytes));
  if (sent < bytes.length) side.waiting.push(bytes.slice(sent));
};

/** Writes what waits; reads no more from `from` while something does. */
function flush(from: Socket<Side>): void {
  const { other, waiting } = from.data;
  if (!other) return;
  for (let first = waiting[0]; first; first = waiting[0]) {
    const sent = Math.max(0, other.write(first));
    if (sent < first.length) {
      waiting[0] = first.subarray(sent);
      from.pause();
      return;
    }
    waiting.shift();
  }
  from.resume();
}

const ending = {
  data(socket: Socket<Side>, bytes: Uint8Array) {
    pass(socket.data, bytes);
    if (socket.data.waiting.length > 0) socket.pause();
  },
  drain(socket: Socket<Side>) {
    if (socket.data.other) flush(socket.data.other);
  },
  end: (socket: Socket<Side>) => void socket.data.other?.end(),
  close: (socket: Socket<Side>) => void socket.data.other?.end(),
  error: (socket: Socket<Side>) => void socket.data.other?.terminate(),
};

const relayTo = (hostname: string, port: number) => ({
  ...ending,
  open(outer: Socket<Side>) {
    outer.data = { other: undefined, waiting: [] };
    Bun.connect<Side>({
      ...{ hostname, port, data: { other: outer, waiting: [] } },
      socket: {
        ...ending,
        open(inner: Socket<Side>) {
          outer.data.other = inner;
          flush(outer);
        },
      },
    }).catch(() => outer.terminate()); // what listened here is gone
  },
});
