import { WrennError } from "@wrenn/contract";
import type { Fleet } from "../../hosts/fleet.ts";
import type { Log } from "../../log.ts";
import { Rounds } from "../../rounds.ts";
import type { BuildCache } from "../../store/builds/cache.ts";
import type { BuildFiles } from "../../store/builds/files.ts";
import type { BuildStore } from "../../store/builds/queue.ts";
import { type TagRow, type TemplateStore, usualTag } from "../../store/builds/templates.ts";
import type { BuildRow, TemplateRow } from "../../store/schema/index.ts";
import type { SnapshotStore } from "../../store/snapshots.ts";
import type { Caller } from "../caller.ts";
import { limits } from "../limits.ts";

/** A template with what is said about it. */
export type Shown = { template: TemplateRow; tags: TagRow[]; current: BuildRow | undefined; isOwn: boolean };

/** How long what nobody uses is kept, days, and how many steps' results a team may keep. */
const keep = { files: 7, cacheDays: 14, cacheCount: 200 } as const;
const sweepMs = 60_000;

type Ground = {
  templates: TemplateStore;
  queue: BuildStore;
  cache: BuildCache;
  files: BuildFiles;
  snapshots: SnapshotStore;
  fleet: Fleet;
  log: Log;
};

/** The templates that were built: names, versions, tags, and what becomes of those nobody needs. */
export class Templates implements AsyncDisposable {
  readonly #rounds: Rounds;

  constructor(readonly ground: Ground) {
    this.#rounds = new Rounds(
      sweepMs,
      () => this.#collect(),
      (err) => ground.log.warn({ err }, "what builds left was not removed"),
    );
  }

  /** The templates that a team may start from, by name. */
  async list(caller: Caller): Promise<Shown[]> {
    const rows = await this.ground.templates.list(caller.team);
    return await this.#shown(caller, rows);
  }

  /** One of them, by name or id. Throws `not_found`. */
  async get(caller: Caller, name: string): Promise<Shown> {
    const row = await this.ground.templates.visible(caller.team, name);
    if (!row) throw absent(name);
    return (await this.#shown(caller, [row]))[0]!;
  }

  /** The template of this name or id that the team may start from, if there is one. */
  async known(caller: Caller, name: string): Promise<TemplateRow | undefined> {
    return await this.ground.templates.visible(caller.team, name);
  }

  /** The team's own. Throws `not_found`, `forbidden` for one of the platform. */
  async own(caller: Caller, name: string): Promise<TemplateRow> {
    const row = await this.ground.templates.own(caller.team, name);
    if (row) return row;
    if (!(await this.ground.templates.visible(caller.team, name))) throw absent(name);
    throw new WrennError("forbidden", `"${name}" is a template of this installation, not of the team.`, {
      remedy: "Its operator can change it.",
    });
  }

  /** Points tags at a version, named by a tag or the build's id. Answers the build. */
  async tag(caller: Caller, name: string, version: string, tags: readonly string[]): Promise<BuildRow> {
    const build = await this.#version(await this.own(caller, name), version);
    await this.ground.templates.tag(build, tags);
    return build;
  }

  /** Removes tags. Throws `invalid_request` for the one that the bare name means, `not_found` for one there is not. */
  async untag(caller: Caller, name: string, tags: readonly string[]): Promise<void> {
    const row = await this.own(caller, name);
    if (tags.includes(usualTag))
      throw new WrennError("invalid_request", `The tag "${usualTag}" cannot be removed.`, {
        remedy: "Point it at another version, or remove the template.",
      });
    const gone = await this.ground.templates.untag(row.id, tags);
    const missing = tags.find((tag) => !gone.includes(tag));
    if (missing !== undefined) throw noVersion(row, missing);
  }

  /** Opens one of the team's templates to every team, or closes it. Throws `conflict` when another has the name. */
  async publish(caller: Caller, name: string, platform: boolean): Promise<void> {
    const row = await this.own(caller, name);
    if (platform) await this.#version(row, usualTag);
    const other = platform ? await this.ground.templates.platform(row.name) : undefined;
    if (other && other.id !== row.id)
      throw new WrennError("conflict", `Another team's template "${row.name}" is the installation's.`, {
        remedy: "Choose another name, or close that one first.",
      });
    await this.ground.templates.publish(row.id, platform);
  }

  /**
   * The team's template, if it is open to every team or closed as `platform` says already. Throws `forbidden` where that
   * would have to change: the installation's administrators decide what every team sees.
   */
  async needPublic(caller: Caller, name: string, platform: boolean): Promise<TemplateRow> {
    const row = await this.own(caller, name);
    if (row.platform === platform) return row;
    throw new WrennError(
      "forbidden",
      `Only an administrator ${platform ? "opens" : "closes"} a template to other teams.`,
      {
        remedy: "One does so with PUT /v1/admin/templates/NAME/platform.",
      },
    );
  }

  /** Removes a template with all its versions; sandboxes that run stay. Throws `conflict` while a build of it is under way. */
  async remove(caller: Caller, name: string): Promise<void> {
    const row = await this.own(caller, name);
    const builds = await this.ground.queue.list({ team: caller.team, template: row.id, limit: 100 });
    if (builds.some(({ status }) => status === "running" || status === "pending"))
      throw new WrennError("conflict", `"${row.name}" is being built.`, { remedy: "Wait, or cancel the build." });
    await this.ground.templates.remove(row.id);
    void this.collect();
  }

  /** Removes what nobody needs: old archives, old results of steps, and snapshots that nothing leads to. */
  collect(): Promise<void> {
    return this.#rounds.run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
  }

  async #collect(): Promise<void> {
    const { cache, files, snapshots, fleet } = this.ground;
    await cache.prune(keep.cacheDays, keep.cacheCount);
    await files.collect(keep.files);
    for (const { id, hostId } of await cache.unneeded()) {
      await fleet.host(hostId).rpc.deleteSnapshot({ id }, { timeoutMs: limits.destroy });
      const row = await snapshots.byId(id);
      if (row) await snapshots.remove(row);
    }
  }

  async #version(row: TemplateRow, version: string): Promise<BuildRow> {
    const build = await this.ground.templates.version(row, version);
    if (build) return build;
    throw noVersion(row, version);
  }

  async #shown(caller: Caller, rows: readonly TemplateRow[]): Promise<Shown[]> {
    const current = await this.ground.templates.current(rows);
    return await Promise.all(
      rows.map(async (template) => ({
        template,
        tags: await this.ground.templates.tags(template.id),
        current: current.get(template.id),
        isOwn: template.teamId === caller.team,
      })),
    );
  }
}

const absent = (name: string) =>
  new WrennError("not_found", `There is no template "${name}".`, {
    remedy: "`GET /v1/templates` lists those that were built.",
    details: { template: name },
  });

const noVersion = ({ name }: TemplateRow, version: string) =>
  new WrennError("not_found", `The template "${name}" has no version "${version}".`, {
    remedy: `\`GET /v1/templates/${name}\` lists its tags.`,
    details: { template: name, version },
  });
