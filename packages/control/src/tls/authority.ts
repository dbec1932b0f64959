import "reflect-metadata"; // @peculiar/x509 looks for it when it is loaded
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import * as signing from "./signing.ts";
import { algorithm, dayMs, exportKey, importKey, type KeyPair, newKeys, validFor } from "./signing.ts";

export type { KeyPair };

/** People install the authority once; browsers take server certificates of at most 825 days from one like it. */
const days = { authority: 3_650, server: 820 } as const;
/** A server certificate is made anew when less than this is left of it. */
const renewDays = 365;
/** A certificate authority for one installation's host names: who installs it trusts those, and no other server. */
export const newAuthority = (): Promise<KeyPair> =>
  signing.newAuthority(
    "Wrenn local certificate authority",
    days.authority,
    KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign,
  );

/** A server certificate for `domain`, every name one label below it, and this machine's loopback. */
export async function issue(authority: KeyPair, domain: string): Promise<KeyPair> {
  const issuer = new X509Certificate(authority.cert);
  const keys = await newKeys();
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${domain}`,
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey: await importKey(authority.key),
    signingAlgorithm: algorithm,
    ...validFor(days.server),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      new SubjectAlternativeNameExtension([
        ...[domain, `*.${domain}`, "localhost"].map((value) => ({ type: "dns" as const, value })),
        ...["127.0.0.1", "::1"].map((value) => ({ type: "ip" as const, value })),
      ]),
    ],
  });
  return { cert: certificate.toString("pem"), key: await exportKey(keys.privateKey) };
}

/** Whether a server certificate is the authority's, for `domain`, and good for a while. */
export async function isGood(cert: string, authority: KeyPair, domain: string): Promise<boolean> {
  const certificate = new X509Certificate(cert);
  const names = certificate.getExtension(SubjectAlternativeNameExtension)?.names.toJSON() ?? [];
  if (!names.some(({ value }) => value === `*.${domain}`)) return false;
  if (certificate.notAfter.getTime() - Date.now() < renewDays * dayMs) return false;
  return certificate.verify({ publicKey: new X509Certificate(authority.cert).publicKey });
}
