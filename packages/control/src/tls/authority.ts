import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

cryptoProvider.set(crypto);

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const dayMs = 86_400_000;
/** People install the authority once; browsers take server certificates of at most 825 days from one like it. */
const days = { authority: 3_650, server: 820 } as const;
/** A server certificate is made anew when less than this is left of it. */
const renewDays = 365;
/** Clocks differ. */
const skewMs = 5 * 60_000;

/** A certificate with its key, both PEM. */
export type KeyPair = { cert: string; key: string };

/** A certificate authority for one installation's host names: who installs it trusts those, and no other server. */
export async function newAuthority(): Promise<KeyPair> {
  const keys = await newKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: "CN=Wrenn local certificate authority",
    keys,
    signingAlgorithm: algorithm,
    ...validFor(days.authority),
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { cert: certificate.toString("pem"), key: await exportKey(keys.privateKey) };
}

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

const validFor = (count: number) => ({
  notBefore: new Date(Date.now() - skewMs),
  notAfter: new Date(Date.now() + count * dayMs),
});
const newKeys = () => crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
const exportKey = async (key: CryptoKey) =>
  PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
const importKey = (pem: string) =>
  crypto.subtle.importKey("pkcs8", PemConverter.decodeFirst(pem), algorithm, false, ["sign"]);
