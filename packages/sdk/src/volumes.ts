import { type rest, WrennError } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";

/** Files that outlive sandboxes. `Sandbox.create({ volumes: { "/data": name } })` mounts them. */
export type VolumeInfo = {
  id: string;
  name: string;
  /** The host that has its files, and the sandboxes that mount it. */
  hostId: string;
  createdAt: Date;
};

/**
 * The volumes of a key's team, as `client.volumes`.
 *
 * @example
 * ```ts
 * await client.volumes.create("data");
 * await using sandbox = await Sandbox.create({ client, volumes: { "/data": "data" } });
 * await sandbox.commands.run("echo kept >/data/note");
 * ```
 */
export class Volumes {
  readonly #client: Api;

  constructor(client: Api) {
    this.#client = client;
  }

  /** Every volume of the team, newest first. */
  async list(options: CallOptions = {}): Promise<VolumeInfo[]> {
    return (await this.#client.request<rest.Volume[]>("GET", "/v1/volumes", options)).map(volumeInfo);
  }

  /** Makes an empty one; throws `conflict` for a name that is taken. */
  async create(name: string, options: CallOptions = {}): Promise<VolumeInfo> {
    return volumeInfo(await this.#client.request<rest.Volume>("POST", "/v1/volumes", { ...options, body: { name } }));
  }

  /** Removes one, called by its name or id, with every file in it; false when there is none. */
  async delete(nameOrId: string, options: CallOptions = {}): Promise<boolean> {
    try {
      await this.#client.request("DELETE", `/v1/volumes/${encodeURIComponent(nameOrId)}`, options);
      return true;
    } catch (thrown) {
      if (thrown instanceof WrennError && thrown.code === "not_found") return false;
      throw thrown;
    }
  }
}

const volumeInfo = ({ id, name, host_id, created_at }: rest.Volume): VolumeInfo => ({
  ...{ id, name, hostId: host_id },
  createdAt: new Date(created_at),
});

/**
 * Mounts as the REST API takes them.
 * @internal
 */
export const mountsBody = (volumes: Readonly<Record<string, string>>): rest.Mounts =>
  Object.entries(volumes).map(([path, name]) => ({ name, path }));
