import { type hostagent, rest, WrennError } from "@wrenn/contract";
import type { NetPolicy, Nets } from "../drivers/ports.ts";
import { agentOf } from "../guest-agent.ts";
import type { Machine } from "../machine.ts";
import type { NetworkSpec, SandboxSpec } from "../record.ts";
import type { Sandbox } from "../sandbox.ts";
import { type KeyPair, newAuthority } from "./authority.ts";
import type { Vault } from "./vault.ts";

/** What a sandbox's policy is kept with. */
export type Keeper = { readonly vault: Vault; readonly drivers: { readonly nets: Nets } };

/** A policy of the wire as the journal keeps it. Throws `invalid_request` for one that the control plane would not send. */
export function networkOf(wire: hostagent.NetworkPolicy | undefined, vault: Vault): NetworkSpec | undefined {
  if (!wire) return undefined;
  const { internet, allow, deny } = wire;
  const rules = Object.fromEntries(wire.rules.map(({ host, headers }) => [host, [{ transform: { headers } }]]));
  const checked = rest.NetworkPolicy.safeParse({ internet, allow, deny, rules }); // ends up in firewall rules
  if (!checked.success) throw new WrennError("invalid_request", "the network policy is malformed");
  const rewrites = Object.fromEntries(wire.rules.map(({ host, headers }) => [host, { ...headers }]));
  const plain = { internet, allow: checked.data.allow, deny: checked.data.deny };
  return wire.rules.length === 0 ? plain : { ...plain, rewrites: vault.seal(rewrites) };
}

const isOpen = (network: NetworkSpec | undefined): boolean =>
  !network || (network.internet && network.deny.length === 0 && network.rewrites === undefined);

const isClosed = (network: NetworkSpec | undefined): boolean =>
  network !== undefined && !network.internet && network.allow.length === 0;

/** Whether a sandbox's machine must have no way out at all: where guests cannot be told apart, that is how one is closed. */
export const isIsolated = ({ isolated, network }: SandboxSpec, { egress }: Nets): boolean =>
  isolated === true || (isClosed(network) && !egress.holdsPolicies);

/** Throws `unimplemented` for a policy that this host cannot hold: one that is taken and not held is worse than none. */
export function refuseUnheld(network: NetworkSpec | undefined, { egress }: Nets): void {
  if (egress.holdsPolicies || isOpen(network) || isClosed(network)) return;
  throw new WrennError("unimplemented", "this host cannot hold rules between all of the network and none of it", {
    remedy: "Run its agent as root with nftables installed, or let the sandbox reach everything or nothing.",
    details: { egress: egress.detail },
  });
}

/** Puts the policy of a sandbox in force on its machine's network. Gives what its guest must trust for it. */
export async function hold(
  sandbox: Sandbox,
  { nic }: Pick<Machine, "nic">,
  keeper: Keeper,
): Promise<string | undefined> {
  const policy = await policyOf(sandbox, keeper.vault);
  if (policy) await nic.setPolicy?.(policy);
  return policy?.authority?.cert;
}

/** Replaces the policy of a running sandbox. */
export async function change(sandbox: Sandbox, machine: Machine, keeper: Keeper): Promise<void> {
  const { network } = sandbox.record.spec;
  if (!keeper.drivers.nets.egress.holdsPolicies && !isOpen(network))
    throw new WrennError("unimplemented", "this host decides what a sandbox may reach when it starts it", {
      remedy: "Pause and resume the sandbox, or make a new one with the policy you want.",
    });
  const trusted = await hold(sandbox, machine, keeper);
  if (trusted) await agentOf(machine).trust(trusted, sandbox.record.token);
}

async function policyOf(sandbox: Sandbox, vault: Vault): Promise<NetPolicy | undefined> {
  const { network } = sandbox.record.spec;
  if (!network) return undefined;
  const { internet, allow, deny } = network;
  const rewrites = network.rewrites && vault.open<NonNullable<NetPolicy["rewrites"]>>(network.rewrites);
  if (!rewrites) return { internet, allow, deny };
  const kept = sandbox.record.authority && vault.open<KeyPair>(sandbox.record.authority);
  const authority = kept || (await newAuthority());
  if (!kept) sandbox.note({ authority: vault.seal(authority) });
  return { internet, allow, deny, rewrites, authority };
}
