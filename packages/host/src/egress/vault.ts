import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";

const nonceBytes = 12;
const tagBytes = 16;

/**
 * Seals what the journal must keep and nobody may read there: header values and authorities' keys (AES-256-GCM, a fresh
 * nonce each). The key comes from the host token, which stands elsewhere.
 */
export class Vault {
  readonly #key: Buffer;

  constructor(hostToken: string) {
    this.#key = Buffer.from(hkdfSync("sha256", hostToken, "", "wrenn egress vault", 32));
  }

  seal(value: unknown): string {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce);
    const sealed = [nonce, cipher.update(JSON.stringify(value), "utf8"), cipher.final(), cipher.getAuthTag()];
    return Buffer.concat(sealed).toString("base64");
  }

  /** What was sealed; `undefined` for what another token sealed. */
  open<T>(sealed: string): T | undefined {
    const bytes = Buffer.from(sealed, "base64");
    if (bytes.length < nonceBytes + tagBytes) return undefined;
    const cipher = createDecipheriv("aes-256-gcm", this.#key, bytes.subarray(0, nonceBytes));
    cipher.setAuthTag(bytes.subarray(-tagBytes));
    try {
      const text = cipher.update(bytes.subarray(nonceBytes, -tagBytes), undefined, "utf8") + cipher.final("utf8");
      return JSON.parse(text) as T;
    } catch {
      return undefined;
    }
  }
}
