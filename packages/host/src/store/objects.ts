import { WrennError } from "@wrenn/contract";

/** An object that a store lists. */
export type Listed = { readonly key: string; readonly modifiedAtMs: number };

/**
 * Where whole values are kept under keys, out of reach of any one host: a folder, or a bucket of an S3-compatible
 * service. A value is there whole or not at all. Failures are `unavailable`, a full store is `insufficient_storage`.
 */
export interface ObjectStore {
  /** As an operator wrote it down, without secrets. */
  readonly name: string;
  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** `undefined` for an object that is not there. */
  get(key: string, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  has(key: string, signal?: AbortSignal): Promise<boolean>;
  /** Every object whose key begins with `prefix`. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<Listed>;
  /** Removing an absent object succeeds. */
  remove(key: string, signal?: AbortSignal): Promise<void>;
}

/** The error of a store that does not do what it is asked to. */
export const storeError = (store: string, what: string, cause?: unknown): WrennError =>
  new WrennError("unavailable", `the object store ${store} ${what}`, {
    remedy:
      "Check WRENN_STORE, its credentials and that the store is up, then try again: what was sent is not sent again.",
    details: { store },
    cause,
  });

/** The error of a store without room. */
export const storeFull = (store: string, cause?: unknown): WrennError =>
  new WrennError("insufficient_storage", `the object store ${store} is full`, {
    remedy: "Make room there, then try again: what was sent is not sent again.",
    details: { store },
    cause,
  });
