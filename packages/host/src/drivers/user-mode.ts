import { agentPort } from "@wrenn/contract";
import { Gate, type GateGround } from "../egress/gate.ts";
import { needsGate } from "../egress/policy.ts";
import type { PolicyTable } from "../egress/policy-table.ts";
import type { Egress } from "./floor.ts";
import { ownerOf } from "./owner.ts";
import type { Flows, NetPolicy, Nets, Nic } from "./ports.ts";
import { guestNet } from "./qemu/args.ts";

/** What policies are held with: the firewall, and what gates stand on. */
export type Keeping = { readonly table: PolicyTable; readonly ground: GateGround };

/** Everything above the floor. */
const openPolicy: NetPolicy = { internet: true, allow: [], deny: [] };

/** QEMU's user networking: needs no privileges. Guest ports are reached through ports of this machine's loopback. */
export class UserMode implements Nets, AsyncDisposable {
  readonly name = "user-mode";
  readonly gives = "user" as const;
  readonly egress: Nets["egress"];
  readonly #attached = new Set<number>();

  /** Without `keeping` guests cannot be told apart. */
  constructor(
    egress: Egress,
    readonly keeping?: Keeping,
  ) {
    this.egress = { ...egress, holdsPolicies: keeping !== undefined || !egress.isOpen };
  }

  async sweep(): Promise<void> {
    await this.keeping?.table.sweep(this.#attached);
  }

  async attach(name: string, isolated = false): Promise<Nic> {
    const reachable = new Map<number, number>();
    const uid = ownerOf(name);
    const held = this.keeping && uid !== undefined ? new Policed(uid, this.keeping) : undefined;
    if (held) this.#attached.add(uid!);
    return {
      link: { kind: "user", guestPorts: [agentPort], isOpen: this.egress.isOpen && !isolated },
      guestIp: guestNet.ip,
      forwarded: (ports) => {
        for (const [guest, host] of ports) reachable.set(guest, host);
      },
      reach: (guestPort) => (reachable.has(guestPort) ? `127.0.0.1:${reachable.get(guestPort)}` : undefined),
      ...(held && { setPolicy: (policy) => held.set(policy), flows: () => held.flows() }),
      [Symbol.asyncDispose]: async () => {
        if (held) this.#attached.delete(uid!);
        await held?.[Symbol.asyncDispose](); // the VMM's process holds the forwarding
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.keeping?.table.close();
  }
}

/** The policy of one guest. */
class Policed implements AsyncDisposable {
  #gate: Gate | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    readonly uid: number,
    readonly keeping: Keeping,
  ) {}

  /** Puts a policy in force, after those that were asked for before. */
  set(policy: NetPolicy): Promise<void> {
    const result = this.#turn.then(() => this.#set(policy));
    this.#turn = result.catch(() => {});
    return result;
  }

  async flows(): Promise<Flows> {
    if (!this.keeping.table.has(this.uid)) await this.set(openPolicy); // nothing is noted down before somebody looks
    const direct = await this.keeping.table.flows(this.uid);
    const led = this.#gate?.ledger.flows ?? { allowed: [], denied: [] };
    return { allowed: [...led.allowed, ...direct.allowed], denied: [...led.denied, ...direct.denied] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turn;
    await this.keeping.table.drop(this.uid);
    await this.#gate?.[Symbol.asyncDispose]();
  }

  async #set(policy: NetPolicy): Promise<void> {
    const { table, ground } = this.keeping;
    const former = this.#gate;
    this.#gate = needsGate(policy) ? (former ?? (await Gate.open(ground, policy))) : undefined;
    await this.#gate?.use(policy);
    await table.put(this.uid, policy, this.#gate?.ports);
    if (!this.#gate) await former?.[Symbol.asyncDispose]();
  }
}
