import { rest, WrennError } from "@wrenn/contract";
import type { VolumeStore } from "../../store/e2b/volumes.ts";
import type { Mount, VolumeRow } from "../../store/schema/index.ts";
import type { Source } from "../life/source.ts";

/** Volumes of new sandboxes: which they are, and the host that has them, on which such a sandbox must be. */
export class Mounting {
  constructor(readonly store: VolumeStore) {}

  /**
   * What a sandbox starts from, with the volumes that are asked for, beside those of a snapshot; its hosts are those that
   * have them. Throws `unknown` for a name that the team has not, `invalid_request` for volumes of several hosts,
   * `no_hosts_available` when their host cannot take it.
   */
  async of(
    team: string,
    source: Source,
    { volumes = [], unknown }: { volumes?: rest.Mounts | null | undefined; unknown: "not_found" | "invalid_request" },
  ): Promise<Source> {
    const wished = volumes ?? [];
    if (wished.length === 0) return source;
    const names = [...new Set(wished.map(({ name }) => name))];
    const rows = new Map((await this.store.named(team, names)).map((row) => [row.name, row]));
    const missing = names.find((name) => !rows.has(name));
    if (missing !== undefined) throw absent(missing, unknown);
    const asked = wished.map(({ name, path }) => mountOf(rows.get(name)!, rest.plainMountPath(path)));
    const kept = (source.mounts ?? []).filter(({ path }) => !asked.some((mount) => mount.path === path));
    const hosts = [...new Set([...rows.values()].map(({ hostId }) => hostId))];
    if (hosts.length > 1) throw apart(names);
    const there = source.hosts.filter(({ id }) => id === hosts[0]);
    if (there.length === 0) throw elsewhere(names[0]!, hosts[0]!);
    return { ...source, hosts: there, mounts: [...kept, ...asked] };
  }
}

const mountOf = ({ id, name }: VolumeRow, path: string): Mount => ({ volume: id, name, path });

const absent = (name: string, code: "not_found" | "invalid_request") =>
  new WrennError(code, `There is no volume "${name}".`, {
    remedy: "`GET /v1/volumes` lists the team's; make it first.",
    details: { volume: name },
  });

const apart = (names: readonly string[]) =>
  new WrennError("invalid_request", `The volumes ${names.join(", ")} are on different hosts.`, {
    remedy: "A sandbox mounts volumes of one host: `GET /v1/volumes` tells where each one is.",
  });

const elsewhere = (name: string, host: string) =>
  new WrennError("no_hosts_available", `The volume "${name}" is on a host that does not take this sandbox.`, {
    remedy: "It may be full, away, or without the template or snapshot: `GET /v1/hosts` tells. Or use another volume.",
    details: { volume: name, host },
  });
