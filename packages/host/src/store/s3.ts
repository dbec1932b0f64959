import { WrennError } from "@wrenn/contract";
import { type Listed, type ObjectStore, storeError, storeFull } from "./objects.ts";

/** Where a bucket is and what opens it. */
export type S3Options = {
  readonly bucket: string;
  /** Put before every key; empty for none. */
  readonly prefix: string;
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly accessKeyId?: string | undefined;
  readonly secretAccessKey?: string | undefined;
  readonly sessionToken?: string | undefined;
  readonly timings?: Partial<Timings> | undefined;
};

type Timings = { readonly tries: number; readonly firstWaitMs: number; readonly timeoutMs: number };

/** An object has 2 MiB: half a minute is a line of less than a megabit. A service that restarts is back after some tries. */
const usual: Timings = { tries: 6, firstWaitMs: 200, timeoutMs: 30_000 };

const signatureSec = 600;

type Method = "GET" | "HEAD" | "PUT" | "DELETE";
type Sent = { body?: Uint8Array | undefined; signal?: AbortSignal | undefined };

/** A bucket of an S3-compatible service. Requests are signed by Bun, and sent again when the service does not answer well. */
export class S3Store implements ObjectStore {
  readonly name: string;
  readonly #client: Bun.S3Client;
  readonly #timings: Timings;

  constructor(readonly options: S3Options) {
    const { bucket, prefix, timings, ...access } = options;
    this.name = `s3://${bucket}${prefix && `/${prefix.slice(0, -1)}`}`;
    this.#client = new Bun.S3Client({ bucket, ...defined(access) });
    this.#timings = { ...usual, ...timings };
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.#ask("PUT", key, { body: bytes, signal });
  }

  async get(key: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    return await this.#ask("GET", key, { signal });
  }

  async has(key: string, signal?: AbortSignal): Promise<boolean> {
    return (await this.#ask("HEAD", key, { signal })) !== undefined;
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncIterable<Listed> {
    const full = this.options.prefix + prefix;
    for (let startAfter: string | undefined; ; ) {
      const page = await this.#patient("LIST", signal, async () => {
        const found = this.#client.list({ prefix: full, ...(startAfter !== undefined && { startAfter }) });
        return await Promise.race([found, late(this.#timings.timeoutMs)]);
      });
      const found = page.contents ?? [];
      for (const { key, lastModified } of found)
        yield { key: key.slice(this.options.prefix.length), modifiedAtMs: Date.parse(`${lastModified}`) };
      startAfter = found.at(-1)?.key;
      if (!page.isTruncated || startAfter === undefined) return;
    }
  }

  async remove(key: string, signal?: AbortSignal): Promise<void> {
    await this.#ask("DELETE", key, { signal });
  }

  #ask(method: Method, key: string, { body, signal }: Sent): Promise<Uint8Array | undefined> {
    return this.#patient(method, signal, async () => {
      const url = this.#client.presign(this.options.prefix + key, { method, expiresIn: signatureSec });
      const patience = AbortSignal.timeout(this.#timings.timeoutMs);
      const response = await fetch(url, {
        ...{ method, redirect: "manual", signal: signal ? AbortSignal.any([signal, patience]) : patience },
        ...(body && { body: body as BodyInit }),
      });
      const bytes = await response.bytes(); // also of a refusal, so that the connection can be used again
      if (response.ok) return bytes;
      if (response.status === 404 && method !== "PUT") return undefined;
      throw this.#refusal(response.status, new TextDecoder().decode(bytes));
    });
  }

  /** Whatever the service does not answer well is tried again; what it refuses for good is not. */
  async #patient<T>(what: string, signal: AbortSignal | undefined, act: () => Promise<T>): Promise<T> {
    for (let left = this.#timings.tries, waitMs = this.#timings.firstWaitMs; ; waitMs *= 2) {
      signal?.throwIfAborted();
      try {
        return await act();
      } catch (thrown) {
        signal?.throwIfAborted();
        if (thrown instanceof WrennError && !(thrown.cause instanceof Passing)) throw thrown;
        if (--left <= 0)
          throw thrown instanceof WrennError ? thrown : storeError(this.name, `does not answer (${what})`, thrown);
        await Bun.sleep(waitMs * (0.5 + Math.random() / 2));
      }
    }
  }

  #refusal(status: number, text: string): WrennError {
    const code = /<Code>([^<]*)<\/Code>/.exec(text)?.[1] ?? "";
    if (status === 507 || code === "QuotaExceeded" || code === "XMinioStorageFull") return storeFull(this.name, text);
    const isPassing = status >= 500 || status === 429 || status === 408 || code === "RequestTimeTooSkewed";
    const what = `answered with status ${status}${code && ` (${code})`}`;
    return storeError(this.name, what, isPassing ? new Passing(text) : text);
  }
}

/** A refusal that another try may not meet. */
class Passing extends Error {}

async function late(ms: number): Promise<never> {
  await Bun.sleep(ms);
  throw new Error("no answer in time");
}

const defined = <T extends object>(all: T) =>
  Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Bun.S3Options;
