import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

/** What every token begins with, so that leaked ones are recognized, and the two kinds of bearers told apart. */
export const sessionPrefix = "wrs_";

/** A token that nobody can guess: 32 hex digits of 16 random bytes (Wrenn REST API 1.3). */
export const newToken = (): string => randomBytes(16).toString("hex");

/** A token of a session: 32 random bytes. */
export const newSessionToken = (): string => sessionPrefix + randomBytes(32).toString("base64url");

/** SHA-256, hex: what is stored instead of a token. Random tokens need no slower hash. */
export const hashToken = (token: string): string => new Bun.CryptoHasher("sha256").update(token).digest("hex");

const version = "v1:";
const nonceBytes = 12;
const tagBytes = 16;

/** Secrets that have to be read again, under `WRENN_ENCRYPTION_KEY` (AES-256-GCM; a fresh nonce each). */
export class Box {
  readonly #key: Buffer;

  /** `key` has 32 bytes. */
  constructor(key: Buffer) {
    this.#key = key;
  }

  /** Encrypts. Only the same `purpose` opens it again, so that nothing passes for something else. */
  seal(text: string, purpose: string): string {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce).setAAD(Buffer.from(purpose));
    const sealed = Buffer.concat([nonce, cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]);
    return version + sealed.toString("base64");
  }

  /** Decrypts; `undefined` for what this key, or this purpose, did not seal. */
  open(sealed: string, purpose: string): string | undefined {
    if (!sealed.startsWith(version)) return undefined;
    const bytes = Buffer.from(sealed.slice(version.length), "base64");
    if (bytes.length < nonceBytes + tagBytes) return undefined;
    const cipher = createDecipheriv("aes-256-gcm", this.#key, bytes.subarray(0, nonceBytes));
    cipher.setAAD(Buffer.from(purpose)).setAuthTag(bytes.subarray(-tagBytes));
    try {
      return cipher.update(bytes.subarray(nonceBytes, -tagBytes), undefined, "utf8") + cipher.final("utf8");
    } catch {
      return undefined;
    }
  }
}
