import "reflect-metadata"; // @peculiar/x509 looks for it when it is loaded
import {
  BasicConstraintsExtension,
  cryptoProvider,
  type KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

cryptoProvider.set(crypto);

/** What every certificate of the installation is signed with. */
export const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** A day, in milliseconds. */
export const dayMs = 86_400_000;
/** Clocks of hosts and visitors differ. */
const skewMs = 5 * 60_000;

/** A certificate with its key, both PEM. */
export type KeyPair = { cert: string; key: string };

/** From now, for so many days. */
export const validFor = (days: number): { notBefore: Date; notAfter: Date } => ({
  notBefore: new Date(Date.now() - skewMs),
  notAfter: new Date(Date.now() + days * dayMs),
});

/** A fresh key, with which something can be signed. */
export const newKeys = () => crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;

/** A private key as PEM. */
export const exportKey = async (key: CryptoKey): Promise<string> =>
  PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");

/** A private key from PEM, to sign with. */
export const importKey = (pem: string): Promise<CryptoKey> =>
  crypto.subtle.importKey("pkcs8", PemConverter.decodeFirst(pem), algorithm, false, ["sign"]);

/** A new certificate authority called `name`, which signs certificates of others, and no further authorities. */
export async function newAuthority(name: string, days: number, usages: KeyUsageFlags): Promise<KeyPair> {
  const keys = await newKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
    ...validFor(days),
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(usages, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { cert: certificate.toString("pem"), key: await exportKey(keys.privateKey) };
}
