import { createHash } from "node:crypto";
import { randomId, rest, safeName, WrennError } from "@wrenn/contract";
import type { BuildFiles } from "../../store/builds/files.ts";
import type { BuildChange, BuildStore, LogQuery } from "../../store/builds/queue.ts";
import { type TemplateStore, usualTag } from "../../store/builds/templates.ts";
import type { BuildRow, BuildSource, LogRow, NewBuild, TemplateRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import type { Box, Credentials } from "./box.ts";
import { readDockerfile } from "./dockerfile.ts";
import type { Origins } from "./origins.ts";
import { needSecrets, type Plan } from "./plan.ts";
import { readCheck, readRecipe } from "./recipe.ts";
import { splitName } from "./versions.ts";
import type { Worker } from "./worker.ts";

/** A team that has this many builds waiting or running is told to wait: more is a loop that went wrong. */
const maxUnfinished = 200;
/** Lines of one answer. */
const maxLogLines = 1_000;

/** Size and limits of a build, whoever asks for it. */
export type BuildTerms = Pick<NewBuild, "vcpus" | "memoryMib" | "timeoutSec" | "noCache" | "tags" | "secret">;
/** What is to be built. */
export type Submission = { plan: Plan; source: BuildSource };

/** What an announced build is told with its plan. */
export type Completion = Pick<BuildChange, "noCache"> & { registry?: Credentials | undefined };

type Ground = {
  box: Box;
  queue: BuildStore;
  templates: TemplateStore;
  files: BuildFiles;
  origins: Origins;
  worker: Worker;
};

/** Builds of templates: submitted, followed, cancelled. */
export class Builds {
  constructor(readonly ground: Ground) {}

  /** Reads what is to be built and puts it into the queue. Throws `invalid_request` with the line; nothing is queued then. */
  async submit(caller: Caller, name: string, request: rest.CreateBuild): Promise<BuildRow> {
    const { name: bare, tag } = splitName(name);
    const tags = tag === usualTag ? request.tags : [...request.tags, tag];
    const submission = await this.read(caller, request);
    return await this.queue(caller, bare, submission, {
      ...{ vcpus: request.vcpus, memoryMib: request.memory_mb, timeoutSec: request.timeout_sec },
      ...{ noCache: request.no_cache, tags },
      secret: this.ground.box.seal({ registry: request.registry, secrets: request.secrets }),
    });
  }

  /** Puts a plan into the queue. */
  async queue(caller: Caller, name: string, submission: Submission, terms: BuildTerms): Promise<BuildRow> {
    await this.#needRoom(caller);
    const row = await this.#insert(caller, await this.template(caller, name), { ...submission, ...terms }, "pending");
    this.ground.worker.look();
    return row;
  }

  /** Writes down a build whose plan comes later, with {@link complete}. */
  async announce(caller: Caller, name: string, terms: BuildTerms): Promise<BuildRow> {
    await this.#needRoom(caller);
    const plan: Plan = { syntax: "steps", stages: [], args: {}, warnings: [] };
    const source: BuildSource = { kind: "steps", base: "", text: "" };
    return await this.#insert(caller, await this.template(caller, name), { plan, source, ...terms }, "waiting");
  }

  /** Gives an announced build its plan. Throws `conflict` when it has one. */
  async complete(caller: Caller, id: string, change: Submission & Completion): Promise<BuildRow> {
    await this.get(caller, id);
    const { registry, ...rest } = change;
    const row = await this.ground.queue.submit(id, { ...rest, secret: this.ground.box.seal({ registry }) });
    if (!row) throw new WrennError("conflict", "The build was started before.", { remedy: "Announce a new one." });
    this.ground.worker.look();
    return row;
  }

  /** The team's template of this name, made when there is none. Throws `conflict` for the name of a host's template or a snapshot. */
  async template(caller: Caller, name: string): Promise<TemplateRow> {
    if (!safeName.test(name))
      throw new WrennError("invalid_request", `"${name}" is no name of a template.`, {
        remedy: "Use 1 to 64 letters, digits, `.`, `_`, `-`, a letter or digit first.",
      });
    if (await this.ground.origins.isOfHost(name))
      throw new WrennError("conflict", `"${name}" is the name of a template that comes with the installation.`, {
        remedy: "Choose another name.",
      });
    if (await this.ground.origins.isSnapshot(caller, name))
      throw new WrennError("conflict", `"${name}" is the name of a snapshot of the team.`, {
        remedy: "Choose another name, or remove that snapshot first.",
      });
    return await this.ground.templates.ensure(caller.team, name);
  }

  /** The team's build. Throws `not_found`. */
  async get(caller: Caller, id: string): Promise<BuildRow> {
    const row = await this.ground.queue.find(id, caller.team);
    if (row) return row;
    throw new WrennError("not_found", `There is no build "${id}".`, { remedy: "`GET /v1/builds` lists them." });
  }

  /** The team's builds, newest first; of one template when it is named. Throws `not_found` for one there is not. */
  async list(caller: Caller, name: string | undefined, limit: number): Promise<BuildRow[]> {
    const template = name === undefined ? undefined : await this.ground.templates.own(caller.team, name);
    if (name !== undefined && !template)
      throw new WrennError("not_found", `The team has no template "${name}".`, { remedy: "See `GET /v1/templates`." });
    return await this.ground.queue.list({ team: caller.team, template: template?.id, limit });
  }

  /** What the template of a build is called. */
  async templateName({ templateId }: BuildRow): Promise<string> {
    return (await this.ground.templates.byId(templateId))?.name ?? "";
  }

  /** The build as it is, and lines of its log behind `after`. */
  async logs(caller: Caller, id: string, after: number): Promise<{ build: BuildRow; lines: LogRow[] }> {
    // Read before the lines: what a finished build has logged is all there.
    const build = await this.get(caller, id);
    return { build, lines: await this.ground.queue.logs(id, after, maxLogLines) };
  }

  /** Lines of a build's log from the one at place `offset` on. */
  page(id: string, offset: number, limit: number): Promise<LogRow[]> {
    return this.ground.queue.page(id, offset, limit);
  }

  /** Lines of a build's log of some kinds. */
  search(id: string, query: LogQuery): Promise<LogRow[]> {
    return this.ground.queue.search(id, query);
  }

  /** Ends a build. Throws `invalid_state` when it is over. */
  async cancel(caller: Caller, id: string): Promise<void> {
    await this.get(caller, id);
    if (!(await this.ground.queue.cancel(id)))
      throw new WrennError("invalid_state", "The build is over.", { remedy: "There is nothing to cancel." });
    this.ground.worker.cancel(id);
  }

  /** Whether an archive was uploaded. */
  async hasFiles(caller: Caller, hash: string): Promise<boolean> {
    return (await this.ground.files.has(caller.team, hash)) !== undefined;
  }

  /** Takes an archive. With `isDigest` its name must be its SHA-256; throws `invalid_request` when it is not. */
  async upload(team: string, hash: string, body: ReadableStream<Uint8Array>, isDigest: boolean): Promise<void> {
    const digest = createHash("sha256");
    let size = 0;
    const check = (part: Uint8Array) => {
      digest.update(part);
      size += part.length;
      if (size > rest.maxBuildFilesBytes) throw tooLarge();
    };
    const last = (found: string) => {
      if (isDigest && found !== hash)
        throw new WrennError("invalid_request", "The upload is not what its SHA-256 says.", {
          remedy: "Send it again.",
        });
    };
    await this.ground.files.put({ team, hash }, body, check, () => last(digest.digest("hex")));
  }

  /** What a request asks to build. */
  async read(caller: Caller, request: rest.CreateBuild): Promise<Submission> {
    const given = [request.dockerfile, request.recipe, request.from].filter((one) => one !== undefined);
    if (given.length !== 1)
      throw new WrennError(
        "invalid_request",
        "The build names none, or more than one, of dockerfile, recipe and from.",
        {
          remedy: "Send exactly one of them.",
        },
      );
    const names = await this.ground.origins.names(caller);
    const isTemplate = (name: string) => names.has(splitName(name).name);
    const submission = request.recipe ? ofRecipe(request) : ofDockerfile(request, isTemplate);
    needSecrets(submission.plan, request.secrets);
    await this.check(caller, submission.plan);
    return submission;
  }

  /** Throws `invalid_request` when a plan begins with a template that there is not. */
  async check(caller: Caller, { stages }: Plan): Promise<void> {
    for (const { from, line } of stages)
      if (from.kind === "template") await this.ground.origins.find(caller, from, line);
  }

  async #needRoom(caller: Caller): Promise<void> {
    if ((await this.ground.queue.unfinished(caller.team)) < maxUnfinished) return;
    throw new WrennError("rate_limited", `The team has ${maxUnfinished} builds that wait or run.`, {
      remedy: "Wait until some have ended, or cancel them.",
    });
  }

  async #insert(
    caller: Caller,
    template: TemplateRow,
    given: Submission & BuildTerms,
    status: "waiting" | "pending",
  ): Promise<BuildRow> {
    const row = { ...given, tags: [...new Set([usualTag, ...given.tags])], status };
    const none = { user: "", workdir: "", env: {} };
    const own = { id: randomId(), templateId: template.id, teamId: caller.team, actor: caller.actor, defaults: none };
    return await this.ground.queue.insert({ ...row, ...own });
  }
}

function ofRecipe(request: rest.CreateBuild): Submission {
  const { recipe = [], base_template: base = "minimal", healthcheck, files, skip_pre_post: isBare } = request;
  const plan = readRecipe({ base, lines: recipe, healthcheck, archive: files, isBare });
  const source = { kind: "recipe" as const, base, text: recipe.join("\n"), ...(healthcheck && { healthcheck }) };
  return { plan: withOwn(plan, request), source };
}

function ofDockerfile(request: rest.CreateBuild, isTemplate: (name: string) => boolean): Submission {
  const text = request.dockerfile ?? `FROM ${request.from}\n`;
  const plan = readDockerfile({ text, context: request.files, args: request.args, target: request.target, isTemplate });
  const base = plan.stages.at(-1)!.from;
  const name = base.kind === "template" ? base.name : base.kind === "image" ? base.reference : "";
  return { plan: withOwn(plan, request), source: { kind: "dockerfile", base: name, text } };
}

/** What the request says of the start wins over what the text says. */
function withOwn(plan: Plan, { start_command: start, healthcheck }: rest.CreateBuild): Plan {
  return {
    ...plan,
    ...(start?.trim() && { start: { shell: start } }),
    ...(healthcheck?.trim() && { ready: readCheck(healthcheck) }),
  };
}

const tooLarge = () =>
  new WrennError("too_large", `An archive has at most ${rest.maxBuildFilesBytes / 1024 ** 3} GiB.`, {
    remedy: "Leave out what the build does not need, with .dockerignore.",
  });
