import { type hostagent, remedyForTemplate, WrennError } from "@wrenn/contract";
import type { Fleet } from "../../hosts/fleet.ts";
import { type Host, hostError } from "../../hosts/host.ts";
import type { BuildFiles } from "../../store/builds/files.ts";
import type { SnapshotRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import type { Source } from "../sandboxes.ts";
import type { Base } from "./actions.ts";
import type { Credentials } from "./box.ts";
import { streamOf } from "./bytes.ts";
import { type Origin, refused } from "./plan.ts";
import type { Versions } from "./versions.ts";

/** Longest that an image may take from its registry to a file system. */
const importMs = 60 * 60 * 1000;
/** An uploaded archive instead of a name in a registry. */
const archivePattern = /^archive:([0-9a-f]{64})$/;

/** What a stage begins with, and how a sandbox of it is started. */
export type Found = { base: Base; source: Source };
/** What a build brings to open an image, and who hears what is under way. */
export type Reach = { credentials: Credentials | undefined; tell(text: string): void };

/** Longest that a host may take to list its snapshots. */
const listMs = 10_000;
/** What is known of a snapshot whose host does not say more. */
const unknownDefaults = { user: "root", workdir: "/", env: {} } as const;

/** Finds what the first line of a stage names: a team's snapshot, a template that was built, one of a host, or an image. */
export class Origins {
  constructor(
    readonly fleet: Fleet,
    readonly versions: Versions,
    readonly files: BuildFiles,
  ) {}

  /** Throws `invalid_request` with the line when there is no such thing. An image is brought to the host first. */
  async find(
    caller: Caller,
    origin: Exclude<Origin, { kind: "stage" }>,
    line: number,
    reach: Reach = { credentials: undefined, tell: () => {} },
  ): Promise<Found> {
    if (origin.kind === "image") return await this.#image(caller, origin.reference, line, reach);
    const { name } = origin;
    const snapshot = await this.versions.snapshots.named(caller.team, name);
    if (snapshot) return await this.#snapshot(caller, snapshot);
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

  /** A point in time of a sandbox, with the user, folder and environment that commands had there; its processes run on. */
  async #snapshot(caller: Caller, { id, hostId, name, template, mounts }: SnapshotRow): Promise<Found> {
    const host = this.fleet.host(hostId);
    const { snapshots } = await host.rpc.listSnapshots({}, this.fleet.options(caller, listMs)).catch((thrown) => {
      throw hostError(thrown);
    });
    const found = snapshots.find((one) => one.id === id)?.defaults;
    const defaults = found ? { user: found.user, workdir: found.workdir, env: { ...found.env } } : unknownDefaults;
    return {
      base: { key: id, name, digest: `snapshot:${id}`, defaults },
      source: { hosts: [host], template, snapshot: id, name, defaults, ...(mounts && { mounts }) },
    };
  }

  /** A template of the hosts: those that have the very same one as the host that is best placed. */
  async #ofHosts(caller: Caller, name: string, line: number): Promise<Found> {
    const candidates = this.fleet.candidates({ team: caller.team, memoryMib: 0, vcpus: 0, wide: true });
    const found: { host: Host; image: hostagent.Template }[] = [];
    for (const host of candidates) {
      const image = (await this.fleet.templates(host).catch(() => [])).find((template) => template.name === name);
      if (image) found.push({ host, image });
    }
    const image = found[0]?.image;
    if (!image) throw await this.#unknown(caller, name, line);
    const hosts = found.filter((one) => one.image.digest === image.digest).map(({ host }) => host);
    const { base, source } = foundOf(hosts[0]!, image, name);
    return { base, source: { ...source, hosts } };
  }

  /** An image on the host that is best placed. Its name here is that of the registry. */
  async #image(caller: Caller, reference: string, line: number, reach: Reach): Promise<Found> {
    const host = this.fleet.candidates({ team: caller.team, memoryMib: 0, vcpus: 0 })[0]!;
    try {
      const archive = archivePattern.exec(reference)?.[1] ?? "";
      if (archive) await this.#send(caller, host, archive);
      const wanted = { reference: archive ? "" : reference, archive, ...reach.credentials };
      const options = this.fleet.options(caller, importMs);
      let image: hostagent.Template | undefined;
      for await (const { event } of host.rpc.importImage(wanted, options))
        if (event.case === "progress") reach.tell(event.value);
        else if (event.case === "image") image = event.value;
      return foundOf(host, image!, reference);
    } catch (thrown) {
      const error = hostError(thrown);
      throw new WrennError(error.code, `line ${line}: ${error.message}`, {
        ...{ remedy: error.remedy, cause: thrown, details: { ...error.details, line: String(line) } },
      });
    }
  }

  async #send(caller: Caller, host: Host, sha256: string): Promise<void> {
    if ((await this.files.has(caller.team, sha256)) === undefined)
      throw new WrennError("invalid_request", "the archive was not uploaded", {
        remedy: "Upload it, and build again.",
      });
    const body = streamOf(this.files.read(caller.team, sha256));
    const response = await host.archive(sha256, body);
    if (response.ok) return;
    throw (
      WrennError.fromBody(await response.json().catch(() => null)) ??
      new WrennError("agent_error", "the host refused it")
    );
  }

  /** Every name that a team may begin with. */
  async names(caller: Caller): Promise<Set<string>> {
    const { templates, snapshots } = this.versions;
    const [own, host, taken] = await Promise.all([
      templates.list(caller.team),
      this.fleet.allTemplates(),
      snapshots.list(caller.team),
    ]);
    return new Set([...host, ...taken].map(({ name }) => name).concat(own.flatMap(({ name, id }) => [name, id])));
  }

  /** Whether the hosts have a template of this name, which no build may take. */
  async isOfHost(name: string): Promise<boolean> {
    return (await this.fleet.allTemplates()).some((template) => template.name === name);
  }

  /** Whether the team has a snapshot of this name, which a create would take before a template. */
  async isSnapshot(caller: Caller, name: string): Promise<boolean> {
    return (await this.versions.snapshots.named(caller.team, name)) !== undefined;
  }

  async #unknown(caller: Caller, name: string, line: number) {
    const names = [...(await this.names(caller))].filter((one) => one.length < 25);
    return refused(line, `there is no template "${name}"`, remedyForTemplate(name, names));
  }
}

function foundOf(host: Host, image: hostagent.Template, name: string): Found {
  const defaults = { user: image.defaultUser, workdir: image.defaultWorkdir, env: { ...image.env } };
  return {
    // An image is made anew when the agent changes; what it was made of stays what it is called by everywhere.
    base: { key: image.digest, name, digest: image.source || image.digest, defaults },
    source: { hosts: [host], name, template: image.name },
  };
}
