import { type rest, WrennError } from "@wrenn/contract";

/** Every address, as clients of the E2B dialect write it. */
const everywhere = ["0.0.0.0/0", "::/0"];

type Wish = Pick<rest.e2b.Network, "allowOut" | "denyOut" | "rules" | "egressProxy"> & {
  allow_internet_access?: boolean | null | undefined;
};

/**
 * Whether a sandbox with these rules reaches nothing outside. Throws `unimplemented` for rules between all and nothing:
 * one that were taken and not held would be worse than none.
 */
export function isIsolated(wish: Wish): boolean {
  const { allowOut, denyOut, rules, egressProxy } = wish;
  const closed = wish.allow_internet_access === false || (denyOut ?? []).some((one) => everywhere.includes(one));
  const partly = (denyOut ?? []).some((one) => !everywhere.includes(one)) && !closed;
  const excepted = (allowOut ?? []).length > 0 && closed;
  if (partly || excepted || egressProxy || Object.keys(rules ?? {}).length > 0) throw notHeld();
  return closed;
}

const notHeld = () =>
  new WrennError("unimplemented", "This server holds outgoing traffic back wholly or not at all.", {
    remedy: "Set allow_internet_access to false, or leave allowOut, denyOut, rules and egressProxy out.",
  });

/** Throws `unimplemented` for parts of a creation that would change nothing. */
export function refuseUnheld({ iam, volumeMounts, network }: rest.e2b.NewSandbox): void {
  if ((network?.httpsPorts ?? []).length > 0)
    throw new WrennError("unimplemented", "Ports of sandboxes are reached over plain HTTP from this server.", {
      remedy: "Leave httpsPorts out, and let the program in the sandbox listen without TLS.",
    });
  const tokens = (iam as { tokens?: object } | null | undefined)?.tokens;
  if (Object.keys(tokens ?? {}).length === 0 && (volumeMounts ?? []).length === 0) return;
  throw new WrennError("unimplemented", "This server mounts no volumes and gives no identity tokens.", {
    remedy: "Leave volumeMounts and iam out.",
  });
}
