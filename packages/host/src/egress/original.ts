import { isIPv4, type Socket } from "node:net";
import { socketOption } from "../drivers/libc.ts";

/** Where netfilter keeps what a connection was for before it was led here (linux/netfilter_ipv4.h). */
const ip = 0;
const originalDestination = 80;

/** Whom an accepted connection was for before the firewall led it here; `undefined` when it was not. */
export function originalTarget(socket: Socket): { ip: string; port: number } | undefined {
  const { fd } = (socket as unknown as { _handle?: { fd?: number } })._handle ?? {};
  if (fd === undefined) return undefined;
  const address = socketOption(fd, { level: ip, name: originalDestination, bytes: 16 }); // struct sockaddr_in
  if (!address) return undefined;
  const target = { ip: address.subarray(4, 8).join("."), port: (address[2]! << 8) | address[3]! };
  const isOwn = target.port === socket.localPort && target.ip === socket.localAddress;
  return isIPv4(target.ip) && !isOwn ? target : undefined;
}
