import { agentPort, WrennError } from "@wrenn/contract";
import type { Nets, Nic } from "./ports.ts";
import { guestNet } from "./qemu/args.ts";

/** QEMU's user networking: needs no privileges. Guest ports are reached through ports of this machine's loopback. */
export class UserMode implements Nets {
  readonly name = "user-mode";
  readonly gives = "user" as const;

  /** `isOpen`: whether guests may open connections to the outside. */
  constructor(readonly isOpen: boolean) {}

  async attach(): Promise<Nic> {
    let reachable: ReadonlyMap<number, number> = new Map();
    return {
      link: { kind: "user", guestPorts: [agentPort], isOpen: this.isOpen },
      guestIp: guestNet.ip,
      forwarded: (ports) => {
        reachable = ports;
      },
      reach: (guestPort) => {
        const port = reachable.get(guestPort);
        if (port === undefined) throw new WrennError("not_found", `port ${guestPort} of the sandbox is not forwarded`);
        return `127.0.0.1:${port}`;
      },
      [Symbol.asyncDispose]: async () => {}, // the VMM's process holds the forwarding
    };
  }
}
