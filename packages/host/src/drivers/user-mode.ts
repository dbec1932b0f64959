import { agentPort } from "@wrenn/contract";
import type { Nets, Nic } from "./ports.ts";
import { guestNet } from "./qemu/args.ts";

/** QEMU's user networking: needs no privileges. Guest ports are reached through ports of this machine's loopback. */
export class UserMode implements Nets {
  readonly name = "user-mode";
  readonly gives = "user" as const;

  /** `isOpen`: whether guests may open connections to the outside. */
  constructor(readonly isOpen: boolean) {}

  async sweep(): Promise<void> {}

  async attach(_: string, isolated = false): Promise<Nic> {
    const reachable = new Map<number, number>();
    return {
      link: { kind: "user", guestPorts: [agentPort], isOpen: this.isOpen && !isolated },
      guestIp: guestNet.ip,
      forwarded: (ports) => {
        for (const [guest, host] of ports) reachable.set(guest, host);
      },
      reach: (guestPort) => (reachable.has(guestPort) ? `127.0.0.1:${reachable.get(guestPort)}` : undefined),
      [Symbol.asyncDispose]: async () => {}, // the VMM's process holds the forwarding
    };
  }
}
