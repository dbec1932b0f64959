import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { WrennError } from "@wrenn/contract";
import type { ObjectStore } from "./objects.ts";

const nonceBytes = 12;
const tagBytes = 16;

/** Level 1 keeps up with a disk; higher ones save a tenth of the bytes for several times the work. */
const zstdLevel = 1;

/** A line may damage too, and some services show an object that was just replaced half-written for a moment. */
const readTries = 3;
const readAgainMs = 100;

/** A part of the store that one key opens: a team's, or what all teams have in common. */
export type VaultKey = { readonly name: string; readonly key: Uint8Array };

/**
 * Values in an object store under one key: compressed (zstd), then encrypted (AES-256-GCM) with their place as associated
 * data, so that no value passes for another. A chunk's name is a keyed digest of its content: the same content is kept
 * once, and whoever sees the names learns nothing of it.
 */
export class Vault {
  readonly #sealKey: Buffer;
  readonly #nameKey: Buffer;

  /** `key` has 32 bytes. */
  constructor(
    readonly store: ObjectStore,
    { name, key }: VaultKey,
  ) {
    this.name = name;
    this.#sealKey = derive(key, "seal");
    this.#nameKey = derive(key, "name");
  }

  readonly name: string;

  /** The name that `bytes` have as a chunk. */
  nameOf(bytes: Uint8Array): string {
    return new Bun.CryptoHasher("sha256", this.#nameKey).update(bytes).digest("hex");
  }

  /** Where a chunk is kept. */
  chunkKey(name: string): string {
    return `${this.name}/chunks/${name.slice(0, 2)}/${name}`;
  }

  /** Keeps a chunk unless it is there already; gives its name and the bytes that were sent. */
  async keep(bytes: Uint8Array, signal?: AbortSignal): Promise<{ name: string; sent: number }> {
    const name = this.nameOf(bytes);
    const key = this.chunkKey(name);
    if (await this.store.has(key, signal)) return { name, sent: 0 };
    const sealed = await this.#seal(key, bytes);
    await this.store.put(key, sealed, signal);
    return { name, sent: sealed.length };
  }

  /** A chunk's content. Throws `internal_error` that names it when it is missing or damaged. */
  async take(name: string, signal?: AbortSignal): Promise<Uint8Array> {
    const key = this.chunkKey(name);
    const bytes = await this.read(key, signal);
    if (bytes === undefined) throw this.damaged(key, "it is missing");
    if (this.nameOf(bytes) !== name) throw this.damaged(key, "its content is another's");
    return bytes;
  }

  /** Writes a value under a key of its own. */
  async write(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.store.put(key, await this.#seal(key, bytes), signal);
  }

  /** Reads a value; `undefined` when it is not there. Throws `internal_error` that names it when it is damaged. */
  async read(key: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    for (let left = readTries; ; await Bun.sleep(readAgainMs)) {
      const sealed = await this.store.get(key, signal);
      if (sealed === undefined) return undefined;
      const opened = await this.#open(key, sealed);
      if (opened) return opened;
      if (--left === 0) throw this.damaged(key, "its checksum differs");
    }
  }

  /** `undefined` for what this key did not seal at this place, whole. */
  async #open(key: string, sealed: Uint8Array): Promise<Uint8Array | undefined> {
    try {
      const nonce = sealed.subarray(0, nonceBytes);
      const decipher = createDecipheriv("aes-256-gcm", this.#sealKey, nonce).setAAD(Buffer.from(key));
      decipher.setAuthTag(sealed.subarray(-tagBytes));
      const parts = [decipher.update(sealed.subarray(nonceBytes, -tagBytes)), decipher.final()];
      return await Bun.zstdDecompress(Buffer.concat(parts));
    } catch {
      return undefined;
    }
  }

  /** The error of an object that cannot be used. */
  damaged(key: string, how: string): WrennError {
    return new WrennError("internal_error", `the object ${key} in ${this.store.name} is damaged: ${how}`, {
      remedy: "Restore the object from a backup of the store; what needs it cannot be resumed without it.",
      details: { object: key, store: this.store.name },
    });
  }

  async #seal(key: string, bytes: Uint8Array): Promise<Uint8Array> {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv("aes-256-gcm", this.#sealKey, nonce).setAAD(Buffer.from(key));
    const packed = await Bun.zstdCompress(bytes, { level: zstdLevel });
    return Buffer.concat([nonce, cipher.update(packed), cipher.final(), cipher.getAuthTag()]);
  }
}

const derive = (key: Uint8Array, use: string): Buffer =>
  Buffer.from(hkdfSync("sha256", key, new Uint8Array(0), `wrenn vault ${use}`, 32));
