import { createPrivateKey, X509Certificate } from "node:crypto";
import { WrennError } from "@wrenn/contract";
import { type Strategy, strategies } from "./hosts/placement.ts";
import type { KeyPair } from "./tls/signing.ts";

/** What concerns hosts, as it is written; everything may be absent. */
export type FleetOptions = {
  /** `http://HOST:PORT` of a host agent that shares {@link FleetOptions.localToken}; others register themselves. */
  localAddress?: string | undefined;
  localToken?: string | undefined;
  strategy?: string | undefined;
  /** How often a host's memory may be lent. */
  memoryOvercommit?: number | undefined;
  /** Whether channels may write to private addresses. */
  privateDestinations?: boolean | undefined;
  /** PEM of the authority that names hosts and replicas, and of its key (PKCS#8 or SEC1, P-256); made when absent. */
  authority?: { cert: string | undefined; key: string | undefined } | undefined;
};

/** The same, complete and checked. */
export type FleetConfig = Readonly<{
  local: Readonly<{ address: string; token: string }> | undefined;
  strategy: Strategy;
  memoryOvercommit: number;
  privateDestinations: boolean;
  authority: KeyPair | undefined;
}>;

/** Guests share their template's pages and use what they touch: measured, an idle one of 512 MiB holds about 110. */
const defaultOvercommit = 3;

/** Checks and completes options. Throws `invalid_request` with a remedy. */
export function compileFleet(options: FleetOptions = {}): FleetConfig {
  const { strategy = "least-loaded", memoryOvercommit = defaultOvercommit } = options;
  if (!(strategies as readonly string[]).includes(strategy))
    throw bad(`WRENN_PLACEMENT is "${strategy}".`, `Set it to ${strategies.join(", ")}.`);
  if (!(memoryOvercommit >= 0.1 && memoryOvercommit <= 100))
    throw bad("WRENN_MEMORY_OVERCOMMIT is not a number from 0.1 to 100.", "Set it to 1 to lend no memory twice.");
  const { privateDestinations = false } = options;
  return Object.freeze({
    ...{ local: localOf(options), strategy: strategy as Strategy },
    ...{ memoryOvercommit, privateDestinations, authority: authorityOf(options) },
  });
}

/** Reads options from the environment (docs/ARCHITECTURE.md, "Programs"). */
export function fleetFromEnvironment(env: Readonly<Record<string, string | undefined>>): FleetOptions {
  return {
    localAddress: env.CP_HOST_AGENT_ADDR || undefined,
    localToken: env.WRENN_HOST_TOKEN || undefined,
    strategy: env.WRENN_PLACEMENT || undefined,
    memoryOvercommit: env.WRENN_MEMORY_OVERCOMMIT ? Number(env.WRENN_MEMORY_OVERCOMMIT) : undefined,
    authority: { cert: pem(env.WRENN_CA_CERT), key: pem(env.WRENN_CA_KEY) },
    privateDestinations: ["1", "true"].includes(env.WRENN_PRIVATE_DESTINATIONS ?? ""),
  };
}

function authorityOf({ authority: { cert, key } = { cert: undefined, key: undefined } }: FleetOptions) {
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined || key === undefined)
    throw bad("Only one of WRENN_CA_CERT and WRENN_CA_KEY is set.", "Set both, or neither: then an authority is made.");
  try {
    if (new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) return { cert, key };
  } catch (cause) {
    throw bad("WRENN_CA_CERT or WRENN_CA_KEY is no PEM text that can be read.", caRemedy, cause);
  }
  throw bad("WRENN_CA_KEY is not the key of WRENN_CA_CERT.", caRemedy);
}

/** A file of variables has no place for line ends; `\n` stands for them there. */
const pem = (text: string | undefined) => text?.replaceAll("\\n", "\n") || undefined;

const caRemedy = "Set the text of a certificate and of its own P-256 key, as `openssl` writes them.";

function localOf({ localAddress, localToken }: FleetOptions): FleetConfig["local"] {
  if (localAddress === undefined) return undefined;
  const address = /^[^:/]+:\d+$/.test(localAddress) ? `http://${localAddress}` : localAddress;
  if (!/^https?:\/\//.test(address) || !URL.canParse(address))
    throw bad(`CP_HOST_AGENT_ADDR is "${localAddress}".`, "Set it to the host agent's http://HOST:PORT.");
  if (!localToken)
    throw bad(
      "WRENN_HOST_TOKEN is not set.",
      "Set the same secret for wrenn-cp and wrenn-agent, for example `openssl rand -hex 32`.",
    );
  return { address: new URL(address).origin, token: localToken };
}

const bad = (message: string, remedy: string, cause?: unknown) =>
  new WrennError("invalid_request", message, { remedy, cause });
