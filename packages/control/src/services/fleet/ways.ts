import type { Way } from "../../hosts/host.ts";
import { type Tunnels, tunnelScheme } from "../../hosts/tunnels.ts";
import type { LoadedHost } from "../../store/fleet/hosts.ts";
import type { Authority } from "./authority.ts";

/** The local host that the server was told of. */
export type Local = { id: string; address: string; token: string };

/**
 * The way to a host: the local one by the secret it shares, a registered one by mutual TLS, over its own line if it
 * dials in. Its certificate must be the very one that it was given, so that another host of the same authority cannot
 * pass for it.
 */
export function wayTo(host: LoadedHost, local: Local | undefined, means: Means): Way | undefined {
  if (host.isLocal) return local?.id === host.id ? { address: local.address, token: local.token } : undefined;
  const dials = host.address.startsWith(tunnelScheme);
  if (!dials && !host.address.startsWith("https:")) return undefined;
  const own = new Set([host.certFingerprint, host.certPrevious].filter((print) => print !== ""));
  const checkServerIdentity = (_: string, shown: { fingerprint256: string }) =>
    own.has(shown.fingerprint256.replaceAll(":", "").toLowerCase())
      ? undefined
      : new Error("the certificate is not this host's own");
  const trust = () => ({ ...pick(means.authority), checkServerIdentity });
  const token = means.agentToken(host.id);
  if (!dials) return { address: host.address, token, trust };
  const { tunnels } = means;
  return { address: tunnels.addressOf(host.id), token, trust, isHere: () => tunnels.has(host.id) };
}

type Means = { authority: Authority; tunnels: Tunnels; agentToken(id: string): string };

const pick = ({ shown: { cert, key, ca } }: Authority) => ({ cert, key, ca });
