/** A certificate with its key, both PEM. */
export type KeyPair = { readonly cert: string; readonly key: string };

/** Programs keep an authority's certificate for as long as their sandbox lives; a server's may be as old as one may be. */
const days = { authority: 3_650, server: 397 } as const;
/** Clocks of guests differ. */
const skewMs = 24 * 3_600_000;

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** Loaded when a sandbox first needs one. @peculiar/x509 looks for the other when it is loaded, so the order counts. */
async function library(): Promise<typeof import("@peculiar/x509")> {
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  x509.cryptoProvider.set(crypto);
  return x509;
}

const newKeys = () => crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;

const validFor = (days: number) => ({
  notBefore: new Date(Date.now() - skewMs),
  notAfter: new Date(Date.now() + days * 86_400_000),
});

/** A certificate authority for one sandbox: only its guest is told to trust it, and its key never leaves this agent. */
export async function newAuthority(): Promise<KeyPair> {
  const x509 = await library();
  const keys = await newKeys();
  const { keyCertSign, cRLSign } = x509.KeyUsageFlags;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=Wrenn sandbox egress",
    keys,
    signingAlgorithm: algorithm,
    ...validFor(days.authority),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pem(x509, certificate, keys);
}

/** A certificate for one host name, signed by a sandbox's authority. */
export async function issue(authority: KeyPair, name: string): Promise<KeyPair> {
  const x509 = await library();
  const issuer = new x509.X509Certificate(authority.cert);
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: "CN=Wrenn sandbox egress server", // the name stands below; a subject has room for 64 characters
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey: await signingKey(x509, authority),
    signingAlgorithm: algorithm,
    ...validFor(days.server),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: name }]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pem(x509, certificate, keys);
}

type X509 = typeof import("@peculiar/x509");

const signingKey = ({ PemConverter }: X509, { key }: KeyPair): Promise<CryptoKey> =>
  crypto.subtle.importKey("pkcs8", PemConverter.decodeFirst(key), algorithm, false, ["sign"]);

async function pem({ PemConverter }: X509, cert: { toString(format: "pem"): string }, keys: CryptoKeyPair) {
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { cert: cert.toString("pem"), key: PemConverter.encode(key, "PRIVATE KEY") };
}
