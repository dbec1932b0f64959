import { createECDH, hkdfSync } from "node:crypto";
import type { SandboxId } from "@wrenn/contract";
import { calculateJwkThumbprint, importJWK, type JWK, SignJWT } from "jose";

/** Long enough for a token to be renewed several times over before it ends, whatever fails meanwhile. */
const lifetimeSec = 3_600;

const algorithm = "ES256";

/** Whose identity a token tells. */
export type Bearer = { readonly id: SandboxId; readonly teamId: string };

/**
 * Tokens that tell services outside which sandbox asks (JWT-SVID: SPIFFE, "JWT-SVID", and OpenID Connect discovery). The
 * key comes from the installation's encryption key, so all replicas have the same one and no table holds it.
 */
export class Identities {
  readonly #jwk: JWK;

  constructor(
    encryptionKey: Buffer,
    /** Where services find the key. */
    readonly issuer: () => string,
  ) {
    const curve = createECDH("prime256v1");
    curve.setPrivateKey(Buffer.from(hkdfSync("sha256", encryptionKey, "", "wrenn identity tokens", 32)));
    const point = curve.getPublicKey(); // 4, then both coordinates (SEC 1, section 2.3.3)
    const text = (bytes: Buffer) => bytes.toString("base64url");
    const [x, y] = [text(point.subarray(1, 33)), text(point.subarray(33))];
    this.#jwk = { kty: "EC", crv: "P-256", x, y, d: text(curve.getPrivateKey()) };
  }

  /** A token for one audience. */
  async sign({ id, teamId }: Bearer, audience: string): Promise<string> {
    const issuer = this.issuer();
    return await new SignJWT({ sandbox_id: id, team_id: teamId })
      .setProtectedHeader({ alg: algorithm, typ: "JWT", kid: await calculateJwkThumbprint(this.#jwk) })
      .setIssuer(issuer)
      .setSubject(`spiffe://${new URL(issuer).hostname}/team/${teamId}/sandbox/${id}`)
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime(`${lifetimeSec}s`)
      .setJti(crypto.randomUUID())
      .sign(await importJWK(this.#jwk, algorithm));
  }

  /** The public key, as those who check tokens read it (RFC 7517). */
  async keys(): Promise<{ keys: JWK[] }> {
    const { d: _, ...shown } = this.#jwk;
    return { keys: [{ ...shown, kid: await calculateJwkThumbprint(shown), alg: algorithm, use: "sig" }] };
  }

  /** What an OpenID Connect client looks up first (OpenID Connect Discovery 1.0, section 3). */
  discovery() {
    const issuer = this.issuer();
    return {
      issuer,
      jwks_uri: `${issuer}/.well-known/jwks.json`,
      response_types_supported: ["id_token"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: [algorithm],
      claims_supported: ["iss", "sub", "aud", "iat", "exp", "jti", "sandbox_id", "team_id"],
    };
  }
}
