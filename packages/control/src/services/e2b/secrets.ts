import { randomId, type rest, WrennError } from "@wrenn/contract";
import type { SecretPage, SecretStore } from "../../store/e2b/secrets.ts";
import type { SecretRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import type { Audit } from "../people/audit.ts";
import type { Box } from "../people/secrets.ts";

/** What the service stands on. */
export type SecretsGround = {
  store: SecretStore;
  box: Box;
  audit: Audit;
  /** Told when a secret has another value, or none any more. */
  changed(caller: Caller, name: string): void;
};

/** What ids begin with, and names do not. */
const idPrefix = "sec_";

/** What the value of a secret is sealed for. */
export const sealedFor = (id: string): string => `secret ${id}`;

/** A team's secrets. No call answers a value. */
export class Secrets {
  constructor(readonly ground: SecretsGround) {}

  /** Keeps a new one. Throws `conflict` for a name that is taken, `invalid_request` for one that looks like an id. */
  async create(caller: Caller, { name, value, metadata }: rest.e2b.NewSecret): Promise<SecretRow> {
    if (name.startsWith(idPrefix))
      throw new WrennError("invalid_request", `A secret's name cannot begin with ${idPrefix}: ids do.`, {
        remedy: "Choose another name.",
      });
    const id = idPrefix + randomId();
    const row = { id, teamId: caller.team, name, metadata: metadata ?? {} };
    const made = await this.ground.store.insert(row, this.ground.box.seal(value, sealedFor(id)));
    if (!made) throw taken(name);
    this.#note(caller, "create", made);
    return made;
  }

  /** A page of them, newest first. */
  list(caller: Caller, page: Omit<SecretPage, "team">): Promise<SecretRow[]> {
    return this.ground.store.list({ ...page, team: caller.team });
  }

  /** One of them, by id or by name. Throws `not_found`. */
  async get({ team }: Caller, idOrName: string): Promise<SecretRow> {
    const text = idOrName.toLowerCase();
    const row = await this.ground.store.find({ team, by: text.startsWith(idPrefix) ? "id" : "name", text });
    if (row) return row;
    throw absent(idOrName);
  }

  /** Gives one a new value, as its next version; metadata stays unless it is named. Throws `not_found`. */
  async update(caller: Caller, idOrName: string, { value, metadata }: rest.e2b.SecretUpdate): Promise<SecretRow> {
    const { id } = await this.get(caller, idOrName);
    const sealed = this.ground.box.seal(value, sealedFor(id));
    const row = await this.ground.store.append(id, sealed, metadata ?? undefined);
    if (!row) throw absent(idOrName);
    this.#note(caller, "update", row);
    this.ground.changed(caller, row.name);
    return row;
  }

  /** Removes one with every version. Throws `not_found`. */
  async remove(caller: Caller, idOrName: string): Promise<void> {
    const row = await this.get(caller, idOrName);
    if (!(await this.ground.store.remove(row.id))) throw absent(idOrName);
    this.#note(caller, "delete", row);
    this.ground.changed(caller, row.name);
  }

  #note(caller: Caller, action: string, { id, name, currentVersion }: SecretRow): void {
    const metadata = { name, version: `${currentVersion}` };
    this.ground.audit.note(caller, { resource: { type: "secret", id }, action, scope: "admin", metadata });
  }
}

const absent = (idOrName: string) =>
  new WrennError("not_found", `There is no secret "${idOrName}".`, { remedy: "`GET /secrets` lists the team's." });

const taken = (name: string) =>
  new WrennError("conflict", `The team has a secret "${name}".`, {
    remedy: "Choose another name, or give that one a new value with POST /secrets/NAME.",
  });
