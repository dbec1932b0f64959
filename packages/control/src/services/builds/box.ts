import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

/** Who opens a registry. */
export type Credentials = { username: string; password: string };
/** What a build needs and nobody may read; secrets by id, in Base64. */
export type Hidden = { registry?: Credentials | undefined; secrets?: Readonly<Record<string, string>> | undefined };

/** NIST SP 800-38D, 5.2.1.1: the length that GCM is made for. */
const ivBytes = 12;
const tagBytes = 16;

/** Keeps what a build needs and nobody may read: AES-256-GCM under the installation's key. */
export class Box {
  constructor(readonly key: Buffer) {}

  /** What may be written down; empty when there is nothing to hide. */
  seal(hidden: Hidden): string {
    if (!hidden.registry && Object.keys(hidden.secrets ?? {}).length === 0) return "";
    const iv = randomBytes(ivBytes);
    const cipher = createCipheriv("aes-256-gcm", this.key, iv);
    const sealed = Buffer.concat([cipher.update(JSON.stringify(hidden)), cipher.final()]);
    return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString("base64");
  }

  /** What was sealed. Throws when it is not ours or was changed. */
  open(text: string): Hidden {
    if (text === "") return {};
    const bytes = Buffer.from(text, "base64");
    const decipher = createDecipheriv("aes-256-gcm", this.key, bytes.subarray(0, ivBytes));
    decipher.setAuthTag(bytes.subarray(ivBytes, ivBytes + tagBytes));
    const opened = Buffer.concat([decipher.update(bytes.subarray(ivBytes + tagBytes)), decipher.final()]);
    return JSON.parse(opened.toString()) as Hidden;
  }
}
