import { createHmac, timingSafeEqual } from "node:crypto";
import { randomId, WrennError } from "@wrenn/contract";
import type { Fleet } from "../../hosts/fleet.ts";
import { type FetchInit, type Host, hostError } from "../../hosts/host.ts";
import type { VolumeStore } from "../../store/e2b/volumes.ts";
import type { VolumeRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";
import type { Audit } from "../people/audit.ts";

/** What the service stands on. `secret` is what tokens of volumes are made from. */
export type VolumesGround = { store: VolumeStore; fleet: Fleet; audit: Audit; secret: Buffer };

/** What ids begin with. */
const idPrefix = "vol_";

/** Files of a team that outlive its sandboxes. Each volume is a folder of one host. */
export class Volumes {
  constructor(readonly ground: VolumesGround) {}

  /** Makes an empty one. Throws `conflict` for a name that is taken, and what placement and the host throw. */
  async create(caller: Caller, name: string): Promise<VolumeRow> {
    const { store, fleet } = this.ground;
    const [host] = fleet.candidates({ team: caller.team, memoryMib: 0, vcpus: 0 });
    const made = await store.insert({ id: idPrefix + randomId(), teamId: caller.team, hostId: host!.id, name });
    if (!made) throw taken(name);
    try {
      await this.#ask(host!, made.id, "PUT");
    } catch (thrown) {
      await store.remove(made);
      throw thrown;
    }
    this.#note(caller, "create", made);
    return made;
  }

  /** The team's, newest first. */
  list({ team }: Caller): Promise<VolumeRow[]> {
    return this.ground.store.list(team);
  }

  /** One of them. Throws `not_found`. */
  async get({ team }: Caller, id: string): Promise<VolumeRow> {
    const row = await this.ground.store.find(id);
    if (row?.teamId === team) return row;
    throw absent(id);
  }

  /** The one of this name or id. Throws `not_found`. */
  async called(caller: Caller, nameOrId: string): Promise<VolumeRow> {
    const [named] = await this.ground.store.named(caller.team, [nameOrId]);
    return named ?? (await this.get(caller, nameOrId));
  }

  /** Removes one with every file in it. Throws `not_found`, and `host_unavailable` when its host is away. */
  async remove(caller: Caller, id: string): Promise<void> {
    const row = await this.get(caller, id);
    await this.drop(row);
    this.#note(caller, "delete", row);
  }

  /** The same, whoever wants it. */
  async drop(row: VolumeRow): Promise<void> {
    await this.#ask(this.ground.fleet.host(row.hostId), row.id, "DELETE");
    await this.ground.store.remove(row);
  }

  /** What opens the content of a volume, and of no other. */
  token(id: string): string {
    return createHmac("sha256", this.ground.secret).update(`volume\n${id}`).digest("base64url");
  }

  /**
   * A request for a volume's files, sent on to its host; `rest` is the path after the id, with the query. Throws
   * `unauthorized` for a token that is not this volume's, `not_found` when it was removed.
   */
  async content(id: string, token: string | undefined, rest: string, init: FetchInit): Promise<Response> {
    if (!same(token ?? "", this.token(id)))
      throw new WrennError("unauthorized", "The volume's token is missing or wrong.", {
        remedy: "Send it as Authorization: Bearer; GET /volumes/{id} tells it.",
      });
    const row = await this.ground.store.find(id);
    if (!row) throw absent(id);
    return await this.#send(this.ground.fleet.host(row.hostId), `${id}/${rest}`, init);
  }

  async #ask(host: Host, id: string, method: "PUT" | "DELETE"): Promise<void> {
    await this.#send(host, id, { method, signal: AbortSignal.timeout(limits.destroy) });
  }

  async #send(host: Host, path: string, init: FetchInit): Promise<Response> {
    const answer = await host.volume(path, init).catch((thrown) => {
      throw hostError(thrown);
    });
    if (answer.ok) return answer;
    throw WrennError.fromBody(await answer.json().catch(() => undefined)) ?? unclear(answer.status);
  }

  #note(caller: Caller, action: string, { id, name }: VolumeRow): void {
    this.ground.audit.note(caller, { resource: { type: "volume", id }, action, scope: "admin", metadata: { name } });
  }
}

function same(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

const absent = (id: string) =>
  new WrennError("not_found", `There is no volume "${id}".`, { remedy: "`GET /volumes` lists the team's." });

const taken = (name: string) =>
  new WrennError("conflict", `The team has a volume "${name}".`, { remedy: "Choose another name, or use that one." });

const unclear = (status: number) => new WrennError("agent_error", `The volume's host answered ${status}.`);
