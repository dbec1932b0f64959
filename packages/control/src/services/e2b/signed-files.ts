import type { SandboxId } from "@wrenn/contract";
import type { SandboxStore } from "../../store/sandboxes.ts";
import { signatureOf } from "./tokens.ts";

/** A wrong signature makes the list of running sandboxes be read again, but no more often than this. */
const freshMs = 100;
/** Tokens remembered at once: deriving one costs more than the signature. */
const cacheSize = 20_000;

/**
 * Finds the sandbox of a signed file URL that names none: clients that reach all sandboxes at one address build such
 * URLs. Only the sandbox's token makes its signature, so the signature tells which it is.
 */
export class SignedFiles {
  readonly #tokens = new Map<SandboxId, string>();
  #running: { ids: SandboxId[]; until: number } = { ids: [], until: 0 };

  constructor(
    readonly store: SandboxStore,
    readonly tokenOf: (id: SandboxId) => string,
  ) {}

  /** The sandbox whose token signed `query`; `undefined` when no running one did. */
  async find(query: URLSearchParams, operation: "read" | "write"): Promise<SandboxId | undefined> {
    const given = query.get("signature");
    const isSigner = (id: SandboxId) => signatureOf(query, operation, this.#token(id)) === given;
    const known = this.#running.ids.find(isSigner);
    if (known || this.#running.until > Date.now()) return known;
    this.#running = { ids: await this.store.running(), until: Date.now() + freshMs };
    return this.#running.ids.find(isSigner);
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
