import { randomBytes } from "node:crypto";
import { type rest, WrennError } from "@wrenn/contract";
import type { Log } from "../log.ts";
import { hashKey, type KeyRow, type KeyStore, type OpenKey } from "../store/keys.ts";
import type { Audit } from "./people/audit.ts";
import { Remembered } from "./people/remembered.ts";
import type { Person } from "./people/sessions.ts";
import { Uses } from "./people/uses.ts";

const unnamed = "Unnamed API Key";

/** API keys: what they open, and their life. */
export class Keys implements AsyncDisposable {
  readonly #open = new Remembered<OpenKey>();
  readonly #uses: Uses;

  constructor(
    readonly store: KeyStore,
    readonly audit: Pick<Audit, "note">,
    log: Log,
  ) {
    this.#uses = new Uses((times) => store.used(times), log);
  }

  /** What `key` opens. Throws `unauthorized`. */
  async open(key: string | null | undefined): Promise<OpenKey> {
    const found = key ? await this.#open.get(hashKey(key), (hash) => this.store.find(hash)) : undefined;
    const isOver = found?.expiresAt && found.expiresAt.getTime() <= Date.now();
    if (!found || isOver)
      throw new WrennError(
        "unauthorized",
        key ? "The API key is not known, or has ended." : "The request has no API key.",
        {
          remedy: "Send a valid key in the header X-API-Key; `wrenn up` prints the key of a local installation.",
        },
      );
    this.#uses.note(found.id);
    return found;
  }

  /** Makes a key of the caller's team; it is shown this once. Throws `invalid_request` for an end that is over. */
  async create(caller: Person, wish: rest.CreateApiKey): Promise<{ row: KeyRow; key: string }> {
    const expiresAt = wish.expires_at === undefined ? null : new Date(wish.expires_at);
    if (expiresAt && expiresAt.getTime() <= Date.now())
      throw new WrennError("invalid_request", "The key would have ended already.", {
        remedy: "Give a time to come in expires_at.",
        details: { field: "expires_at" },
      });
    const key = `wrn_${randomBytes(16).toString("hex")}`;
    const row = await this.store.insert(key, {
      teamId: caller.team,
      name: wish.name || unnamed,
      createdBy: caller.user.id,
      scopes: wish.scopes?.join(" ") ?? null,
      expiresAt,
    });
    this.audit.note(caller, {
      resource: { type: "api_key", id: row.id },
      action: "create",
      metadata: { name: row.name },
    });
    return { row, key };
  }

  /** The keys of the caller's team; a member sees the own ones. */
  list(caller: Person): Promise<KeyRow[]> {
    const createdBy = caller.role === "member" ? caller.user.id : undefined;
    return this.store.list(caller.team, { createdBy });
  }

  /** A key of the caller's team, if the caller may see it. */
  async find(caller: Person, id: string): Promise<KeyRow | undefined> {
    const createdBy = caller.role === "member" ? caller.user.id : undefined;
    return (await this.store.list(caller.team, { id, createdBy }))[0];
  }

  /** As {@link find}. Throws `not_found`. */
  async get(caller: Person, id: string): Promise<KeyRow> {
    const row = await this.find(caller, id);
    if (row) return row;
    throw new WrennError("not_found", "There is no such API key.", {
      remedy: "`GET /v1/api-keys` lists those that you see.",
      details: { kind: "api_key", id },
    });
  }

  /** Gives a key another name. Throws `not_found`. */
  async rename(caller: Person, id: string, name: string): Promise<KeyRow> {
    const row = await this.get(caller, id);
    await this.store.rename(row, name);
    this.forget(); // the audit log calls its caller by the name
    this.audit.note(caller, {
      resource: { type: "api_key", id },
      action: "update",
      metadata: { name, old_name: row.name },
    });
    return await this.get(caller, id);
  }

  /** Ends a key; it is well if there is none. Throws `forbidden` for a member and somebody else's key. */
  async revoke(caller: Person, id: string): Promise<void> {
    const [row] = await this.store.list(caller.team, { id });
    if (!row) return;
    if (caller.role === "member" && row.createdBy !== caller.user.id)
      throw new WrennError("forbidden", "Somebody else made this key.", {
        remedy: "Ask its maker, or an administrator of the team.",
      });
    await this.store.remove(caller.team, id);
    this.forget();
    this.audit.note(caller, {
      ...{ resource: { type: "api_key", id }, action: "revoke", status: "warning" },
      metadata: { name: row.name },
    });
  }

  /** Ends the keys of a team, of one of its members, or of one person everywhere. */
  async revokeAll(of: { team?: string; createdBy?: string | undefined }): Promise<void> {
    await this.store.removeAll(of);
    this.forget();
  }

  /** Reads everything anew: some key has ended. */
  forget(): void {
    this.#open.clear();
  }

  /** Writes down when keys were last used. */
  flush(): Promise<void> {
    return this.#uses.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#uses[Symbol.asyncDispose]();
  }
}
