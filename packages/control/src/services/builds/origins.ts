import type { hostagent } from "@wrenn/contract";
import type { Fleet } from "../../hosts/fleet.ts";
import type { Host } from "../../hosts/host.ts";
import type { Caller } from "../caller.ts";
import type { Source } from "../sandboxes.ts";
import type { Base } from "./actions.ts";
import { type Origin, refused } from "./plan.ts";
import type { Versions } from "./versions.ts";

/** What a stage begins with, and how a sandbox of it is started. */
export type Found = { base: Base; source: Source };

/** Finds what the first line of a stage names: a template that was built, one of a host, or an image. */
export class Origins {
  constructor(
    readonly fleet: Fleet,
    readonly versions: Versions,
  ) {}

  /** Throws `invalid_request` with the line when there is no such thing. `tell` gets what is under way. */
  async find(
    caller: Caller,
    origin: Exclude<Origin, { kind: "stage" }>,
    line: number,
    _tell: (text: string) => void,
  ): Promise<Found> {
    if (origin.kind === "image") throw await this.#unknown(caller, origin.reference, line);
    const { name } = origin;
    const built = await this.versions.find(caller.team, name);
    if (built) {
      const { snapshot, defaults } = built;
      const hosts = [this.fleet.host(snapshot.hostId)];
      return {
        base: { key: snapshot.id, name, digest: `build:${built.build.id}`, defaults },
        source: { hosts, template: snapshot.template, snapshot: snapshot.id, name, defaults },
      };
    }
    return await this.#ofHosts(caller, name, line);
  }

  /** A template of the hosts: those that have the very same one as the host that is best placed. */
  async #ofHosts(caller: Caller, name: string, line: number): Promise<Found> {
    const candidates = this.fleet.candidates({ team: caller.team, memoryMib: 0, vcpus: 0 });
    const found: { host: Host; image: hostagent.Template }[] = [];
    for (const host of candidates) {
      const image = (await this.fleet.templates(host).catch(() => [])).find((template) => template.name === name);
      if (image) found.push({ host, image });
    }
    const image = found[0]?.image;
    if (!image) throw await this.#unknown(caller, name, line);
    const hosts = found.filter((one) => one.image.digest === image.digest).map(({ host }) => host);
    const defaults = { user: image.defaultUser, workdir: image.defaultWorkdir, env: { ...image.env } };
    return {
      base: { key: image.digest, name, digest: image.digest, defaults },
      source: { hosts, name, template: name },
    };
  }

  /** Every name that a team may begin with. */
  async names(caller: Caller): Promise<Set<string>> {
    const [own, host] = await Promise.all([this.versions.templates.list(caller.team), this.fleet.allTemplates()]);
    return new Set([...host.map(({ name }) => name), ...own.flatMap(({ name, id }) => [name, id])]);
  }

  /** Whether the hosts have a template of this name, which no build may take. */
  async isOfHost(name: string): Promise<boolean> {
    return (await this.fleet.allTemplates()).some((template) => template.name === name);
  }

  async #unknown(caller: Caller, name: string, line: number) {
    const names = [...(await this.names(caller))].filter((one) => one.length < 25).join(", ");
    return refused(line, `there is no template "${name}"`, names ? `Begin with one of: ${names}.` : "Run make images.");
  }
}
