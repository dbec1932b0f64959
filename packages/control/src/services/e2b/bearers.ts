import type { SandboxId } from "@wrenn/contract";
import type { SandboxStore } from "../../store/sandboxes.ts";
import { signatureOf } from "./tokens.ts";

/** A wrong signature or token makes the list of running sandboxes be read again, but no more often than this. */
const freshMs = 100;
/** Tokens remembered at once: deriving one costs more than the signature. */
const cacheSize = 20_000;

/**
 * Finds the sandbox of a request for files that names none: clients that reach all sandboxes at one address send such
 * requests, signed or with the sandbox's token, which only that sandbox has.
 */
export class Bearers {
  readonly #tokens = new Map<SandboxId, string>();
  #running: { ids: SandboxId[]; until: number } = { ids: [], until: 0 };

  constructor(
    readonly store: SandboxStore,
    readonly tokenOf: (id: SandboxId) => string,
  ) {}

  /** The sandbox whose token signed `query`; `undefined` when no running one did. */
  bySignature(query: URLSearchParams, operation: "read" | "write"): Promise<SandboxId | undefined> {
    const given = query.get("signature");
    return this.#find((token) => signatureOf(query, operation, token) === given);
  }

  /** The running sandbox whose token this is. */
  byToken(given: string): Promise<SandboxId | undefined> {
    return this.#find((token) => token === given);
  }

  async #find(isTheirs: (token: string) => boolean): Promise<SandboxId | undefined> {
    const among = (ids: readonly SandboxId[]) => ids.find((id) => isTheirs(this.#token(id)));
    const known = among(this.#running.ids);
    if (known || this.#running.until > Date.now()) return known;
    this.#running = { ids: await this.store.running(), until: Date.now() + freshMs };
    return among(this.#running.ids);
  }

  #token(id: SandboxId): string {
    const known = this.#tokens.get(id);
    if (known) return known;
    if (this.#tokens.size >= cacheSize) this.#tokens.clear();
    const token = this.tokenOf(id);
    this.#tokens.set(id, token);
    return token;
  }
}
