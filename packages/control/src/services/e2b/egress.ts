import { rest, WrennError } from "@wrenn/contract";
import { openPolicy } from "../network/networks.ts";

type Wish = Pick<rest.e2b.Network, "allowOut" | "denyOut" | "rules" | "egressProxy"> & {
  allow_internet_access?: boolean | null | undefined;
};

const isEverywhere = (rule: string): boolean => (rest.everywhere as readonly string[]).includes(rule);

/**
 * The policy that a client of the E2B dialect means (E2B protocol, section 4): `allowOut` goes before `denyOut`, and
 * denying everywhere closes it. `undefined` when it means no rule at all. Throws `invalid_request` for malformed rules
 * and `unimplemented` for a proxy of its own.
 */
export function policyOf(wish: Wish): rest.NetworkPolicy | undefined {
  const { allowOut, denyOut, rules, egressProxy } = wish;
  if (egressProxy)
    throw new WrennError("unimplemented", "Outgoing traffic cannot be led through another proxy here.", {
      remedy: "Leave egressProxy out.",
    });
  const [allow, deny] = [allowOut ?? [], denyOut ?? []];
  const internet = wish.allow_internet_access !== false && !deny.some(isEverywhere);
  if (internet && !allow.every(rest.isAddress))
    throw new WrennError(
      "invalid_request",
      "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all other traffic.",
    );
  const read = rest.NetworkPolicy.safeParse({
    ...{ internet, allow, deny: deny.filter((rule) => !isEverywhere(rule)), rules: rules ?? {} },
  });
  if (!read.success) {
    const { path, message } = read.error.issues[0]!;
    throw new WrennError("invalid_request", `network ${path.map(String).join(".")}: ${message}.`, {
      remedy: "See docs/e2b.md for the rules there are.",
    });
  }
  return isPlain(read.data) ? undefined : read.data;
}

const isPlain = (policy: rest.NetworkPolicy): boolean => Bun.deepEquals(policy, openPolicy);
