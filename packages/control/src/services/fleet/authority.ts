import "reflect-metadata"; // @peculiar/x509 looks for it when it is loaded
import { createPrivateKey } from "node:crypto";
import { isIP } from "node:net";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  SubjectAlternativeNameExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { WrennError } from "@wrenn/contract";
import {
  algorithm,
  dayMs,
  exportKey,
  importKey,
  type KeyPair,
  newAuthority,
  newKeys,
  validFor,
} from "../../tls/signing.ts";
import type { Box } from "../people/secrets.ts";

/** Agents renew theirs every day; a week lets one be off over a weekend. */
const hostDays = 7;
/** A replica makes itself a new one twice a day. */
const clientDays = 1;
const authorityDays = 10 * 365;
const purpose = "certificate authority";

/** A certificate with its key, both PEM, and what names it. */
export type Identity = { cert: string; key: string; fingerprint: string; expiresAt: Date };
/** What a replica shows to host agents, and what theirs are signed by. */
export type Client = Identity & { ca: string };
/** Keeps the authority's certificate and sealed key, one for all replicas: answers what is kept after the call. */
export type Keep = (fresh: () => Promise<string>) => Promise<string>;

/** The installation's own certificate authority: it names hosts and replicas to each other, and nobody else trusts it. */
export class Authority {
  #client: Client | undefined;

  private constructor(
    readonly certificate: X509Certificate,
    readonly key: CryptoKey,
  ) {}

  /** The authority of this installation, made by the first replica that asks. Throws `internal_error` for a wrong key. */
  static async open(keep: Keep, box: Box): Promise<Authority> {
    const kept = await keep(async () => JSON.stringify(await sealed(box)));
    const { cert, key } = JSON.parse(kept) as { cert: string; key: string };
    const opened = box.open(key, purpose);
    if (opened === undefined)
      throw new WrennError("internal_error", "The key of the certificate authority cannot be decrypted.", {
        remedy: "Start wrenn-cp with the WRENN_ENCRYPTION_KEY that this database was first used with.",
      });
    const authority = new Authority(new X509Certificate(cert), await importKey(opened));
    await authority.renew();
    return authority;
  }

  /** The operator's own authority, the same for every replica; nothing of it is kept. */
  static async given({ cert, key }: KeyPair): Promise<Authority> {
    const pkcs8 = createPrivateKey(key).export({ type: "pkcs8", format: "pem" }) as string;
    const authority = new Authority(new X509Certificate(cert), await importKey(pkcs8));
    await authority.renew();
    return authority;
  }

  /** PEM of the authority's certificate. */
  get pem(): string {
    return this.certificate.toString("pem");
  }

  /** An identity for the host's agent, which listens at `address` (`HOST:PORT`). */
  host(hostId: string, address: string): Promise<Identity> {
    const name = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
    const san = new SubjectAlternativeNameExtension([{ type: isIP(name) ? "ip" : "dns", value: name }]);
    return this.#issue(hostId, hostDays, [new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth], true), san]);
  }

  /** What this replica shows to agents. */
  get shown(): Client {
    return this.#client!;
  }

  /** Renews what this replica shows when half of its time has passed. */
  async renew(): Promise<void> {
    if (this.#client && this.#client.expiresAt.getTime() - Date.now() > (clientDays * dayMs) / 2) return;
    const usage = new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth], true);
    this.#client = { ...(await this.#issue("wrenn-cp", clientDays, [usage])), ca: this.pem };
  }

  async #issue(
    name: string,
    days: number,
    extensions: (ExtendedKeyUsageExtension | SubjectAlternativeNameExtension)[],
  ): Promise<Identity> {
    const keys = await newKeys();
    const validity = validFor(days);
    const certificate = await X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: this.certificate.subject,
      publicKey: keys.publicKey,
      signingKey: this.key,
      signingAlgorithm: algorithm,
      ...validity,
      extensions: [new BasicConstraintsExtension(false, undefined, true), ...extensions],
    });
    const fingerprint = Buffer.from(await certificate.getThumbprint("SHA-256")).toString("hex");
    const key = await exportKey(keys.privateKey);
    return { cert: certificate.toString("pem"), key, fingerprint, expiresAt: validity.notAfter };
  }
}

/** A new authority whose key only the installation's encryption key opens. */
async function sealed(box: Box): Promise<{ cert: string; key: string }> {
  const { cert, key } = await newAuthority("Wrenn hosts", authorityDays, KeyUsageFlags.keyCertSign);
  return { cert, key: box.seal(key, purpose) };
}
