import { states, WrennError } from "@wrenn/contract";
import { pack } from "tar-stream";
import type { BuildCache, Kept } from "../../store/builds/cache.ts";
import type { BuildFiles } from "../../store/builds/files.ts";
import { hiddenStates } from "../../store/phase.ts";
import type { BuildRow, Defaults, Provenance, SnapshotRow } from "../../store/schema/index.ts";
import { buildLabel } from "../../store/snapshots.ts";
import type { Caller } from "../caller.ts";
import type { Source } from "../sandboxes.ts";
import {
  type Action,
  type Copying,
  compilePlan,
  digestOf,
  type Run,
  type StagePlan,
  shellOf,
  type World,
} from "./actions.ts";
import { asTar } from "./archive.ts";
import type { Box, Hidden } from "./box.ts";
import { type Bytes, contentDigest, Selection, safePath, selected } from "./copying.ts";
import type { BuildLog } from "./log.ts";
import type { Origins } from "./origins.ts";
import { type Command, type Plan, type ReadyCheck, refused } from "./plan.ts";
import { laySecrets } from "./secrets.ts";
import { type ShopGround, Workshop } from "./workshop.ts";

/** What a builder stands on. */
export type BuilderGround = ShopGround & { cache: BuildCache; files: BuildFiles; origins: Origins; box: Box };
/** What a build led to. */
export type Outcome = { snapshot: SnapshotRow; defaults: Defaults; provenance: Provenance[] };
/** What a builder reports while it works. */
export type Reports = {
  log: BuildLog;
  /** `step` of `total` is begun. Throws when the build is not this builder's any more. */
  reached(step: number, total: number): Promise<void>;
  signal: AbortSignal;
};

/** A start command that nothing checks gets this long: enough for a server to listen, or to end with an error. */
const settleMs = 2_000;
/** An unlimited check ends with the build; this is how often its failures are told. */
const tellEvery = 5;

/** Carries out one build. Steps whose result is known are skipped; every other step's result is remembered. */
export class Builder {
  readonly #caller: Caller;
  readonly #plan: Plan;
  #stages: StagePlan[] = [];
  readonly #sources: Source[] = [];
  readonly #results = new Map<number, Promise<Source>>();
  #total = 0;
  readonly #hidden: Hidden;

  constructor(
    readonly ground: BuilderGround,
    readonly build: BuildRow,
    readonly reports: Reports,
  ) {
    this.#plan = build.plan;
    this.#hidden = ground.box.open(build.secret);
    reports.log.hide(Object.values(this.#hidden.secrets ?? {}).map((value) => Buffer.from(value, "base64").toString()));
    this.#caller = { team: build.teamId, actor: build.actor, requestId: `build-${build.id}` };
  }

  /** Builds. Throws what the build's error is to say. */
  async run(): Promise<Outcome> {
    const { log } = this.reports;
    if (this.build.attempts > 1) await this.#clearUp();
    for (const { line, text } of this.#plan.warnings) log.say("warn", `line ${line}: ${text}`);
    this.#stages = await compilePlan(this.#plan, this.#world());
    this.#total = this.#stages.reduce(
      (sum, { actions }) => sum + actions.filter(({ isHidden }) => !isHidden).length,
      1,
    );
    const last = this.#stages.at(-1)!;
    const key = digestOf(last.key, this.#plan.start, this.#plan.ready);
    const provenance = this.#stages.map(({ base: { name, digest } }) => ({ name, digest })).filter(({ name }) => name);
    const known = await this.#known([key]);
    const kept = known.get(key);
    if (kept) {
      await this.reports.reached(this.#total, this.#total);
      for (const action of last.actions) this.#skip(action);
      log.at(this.#total);
      log.say("cached", "template");
      return { snapshot: kept, defaults: last.defaults, provenance };
    }
    await using shop = await this.#carryOut(this.#stages.length - 1);
    await this.#finish(shop, last.defaults);
    return { snapshot: await this.#keep(shop, key), defaults: last.defaults, provenance };
  }

  /** Removes the sandboxes that a builder before this one left when its server ended. */
  async #clearUp(): Promise<void> {
    const { sandboxes } = this.ground;
    const filter = { states: listedStates, metadata: { [buildLabel]: this.build.id }, limit: 100 };
    for (const { id } of await sandboxes.list(this.#caller, filter))
      await sandboxes.destroy(this.#caller, id).catch(() => {}); // it ends by itself when nobody uses it
  }

  #world(): World {
    return {
      base: async (origin, line) => {
        const tell = (text: string) => this.reports.log.say("info", text);
        const { registry: credentials } = this.#hidden;
        const { base, source } = await this.ground.origins.find(this.#caller, origin, line, { credentials, tell });
        this.#sources.push(source);
        // Memory is part of what a step leaves, so another size is another result.
        return { ...base, key: digestOf(base.key, this.build.vcpus, this.build.memoryMib) };
      },
      digest: async (copying, line) => {
        const tar = this.#archive(copying, line);
        return await contentDigest(await tar, new Selection(copying, line));
      },
    };
  }

  /** The remembered results among `keys`, with their snapshots. */
  async #known(keys: readonly string[]): Promise<Map<string, SnapshotRow>> {
    const { cache, snapshots } = this.ground;
    const found = new Map<string, SnapshotRow>();
    if (this.build.noCache) return found;
    for (const [key, { snapshotId }] of await cache.find(this.build.teamId, keys)) {
      const row = await snapshots.byId(snapshotId);
      if (row) found.set(key, row);
      else await cache.forget(snapshotId);
    }
    return found;
  }

  /** A sandbox in which everything of a stage is done. */
  async #carryOut(index: number): Promise<Workshop> {
    const { actions } = this.#stages[index]!;
    const known = await this.#known(actions.map(({ key }) => key));
    const from = actions.findLastIndex(({ key }) => known.has(key));
    for (const action of actions.slice(0, from + 1)) this.#skip(action);
    const snapshot = from >= 0 ? known.get(actions[from]!.key) : undefined;
    const source = snapshot ? this.ground.sandboxes.sourceOf(snapshot, snapshot.template) : await this.#origin(index);
    // Stages that are copied from come first, so that this one's sandbox does not wait for them.
    for (const action of actions.slice(from + 1))
      if (action.act === "copy" && action.from.kind === "stage") await this.#result(action.from.index);
    let shop = await this.#open(source);
    try {
      for (const action of actions.slice(from + 1)) shop = await this.#step(shop, action);
      return shop;
    } catch (thrown) {
      await shop[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  #open(source: Source): Promise<Workshop> {
    const size = source.snapshot ? { vcpus: 0, memoryMib: 0 } : this.build; // a snapshot has its own
    return Workshop.open(this.ground, this.#caller, { source, size, label: this.build.id }, this.reports.signal);
  }

  /** What a stage begins with. */
  async #origin(index: number): Promise<Source> {
    const { from, base } = this.#stages[index]!;
    if (from.kind === "stage") return await this.#result(from.index);
    return this.#sources.find(({ name }) => name === base.name)!;
  }

  /** A finished stage as something to start from; it is carried out when no result of it is known. */
  #result(index: number): Promise<Source> {
    const running = this.#results.get(index) ?? this.#resultOf(index);
    this.#results.set(index, running);
    return running;
  }

  async #resultOf(index: number): Promise<Source> {
    const { actions } = this.#stages[index]!;
    const last = actions.at(-1);
    if (!last) return await this.#origin(index);
    const known = (await this.#known([last.key])).get(last.key);
    if (known) {
      for (const action of actions) this.#skip(action);
      return this.ground.sandboxes.sourceOf(known, known.template);
    }
    await using shop = await this.#carryOut(index);
    const kept = await this.#known([last.key]);
    const snapshot = kept.get(last.key) ?? (await this.#keep(shop, last.key));
    return this.ground.sandboxes.sourceOf(snapshot, snapshot.template);
  }

  #skip({ step, instruction, isHidden }: Action): void {
    if (isHidden) return;
    this.reports.log.at(step);
    this.reports.log.say("cached", instruction.text);
  }

  /** One step: done, told, and its result kept. Answers the sandbox to go on in. */
  async #step(shop: Workshop, action: Action): Promise<Workshop> {
    const { log } = this.reports;
    const started = performance.now();
    await this.reports.reached(action.step, this.#total);
    log.at(action.step);
    if (!action.isHidden) log.say("step", action.instruction.text);
    try {
      await this.#act(shop, action);
    } catch (thrown) {
      this.reports.signal.throwIfAborted();
      throw at(action, thrown);
    } finally {
      log.endLines();
    }
    let next = shop;
    if (this.#readSecrets(action)) next = await this.#rebooted(shop, await this.#keep(shop, action.key, true));
    // A folder costs less to make than to keep; it is part of what the next step leaves.
    else if (action.act !== "folder") await this.#keep(shop, action.key);
    if (!action.isHidden) log.say("done", seconds(started));
    return next;
  }

  /** Whether a step was given a secret, which its sandbox's memory may hold from then on. */
  #readSecrets(action: Action): boolean {
    const { secrets = {} } = this.#hidden;
    return action.act === "run" && (action.secrets ?? []).some(({ id }) => id in secrets);
  }

  /** What is kept of `shop`, in a new sandbox with new memory: nothing but files goes on. */
  async #rebooted(shop: Workshop, kept: SnapshotRow): Promise<Workshop> {
    await shop[Symbol.asyncDispose]();
    return await this.#open(this.ground.sandboxes.sourceOf(kept, kept.template));
  }

  async #act(shop: Workshop, action: Action): Promise<void> {
    switch (action.act) {
      case "run":
        return await this.#run(shop, action);
      case "start":
        await shop.start(action);
        return await this.#settle(shop);
      case "folder":
        return await shop.folder(action.path, action.user);
      case "account":
        return await shop.must(["sh", "-c", makeAccount, "sh", action.name]);
      case "copy":
        return await this.#copy(shop, action);
    }
  }

  async #run(shop: Workshop, run: Run): Promise<void> {
    const { secrets = {} } = this.#hidden;
    await using laid = await laySecrets(shop, run.secrets ?? [], secrets);
    const hear = (stream: "stdout" | "stderr", bytes: Uint8Array) => this.reports.log.hear(stream, bytes);
    const status = await shop.run({ ...run, env: { ...run.env, ...laid.env } }, hear);
    if (status === 0) return;
    const remedy =
      run.user === "root"
        ? "Look at what it printed, above."
        : `Look at what it printed, above. It ran as ${run.user}: write USER root before it if it must not.`;
    throw new WrennError("invalid_request", `exit status ${status}`, { remedy });
  }

  async #copy(shop: Workshop, action: Action & { act: "copy" }): Promise<void> {
    const { line } = action.instruction;
    const owner = action.owner === undefined ? { uid: 0, gid: 0 } : await shop.owner(action.owner);
    const target = action.target.replace(/(?<=.)\/$/, "");
    const selection = new Selection(action, line, await shop.isFolder(target));
    if (action.from.kind !== "stage")
      return await shop.unpack(selected(await this.#archive(action, line), selection, owner));
    const source = await this.#result(action.from.index);
    await using other = await this.#open(source);
    const roots = action.sources.map((path) => fixedPart(safePath(path)));
    await shop.unpack(selected(await other.packed(roots), selection, owner));
  }

  async #archive({ from, sources }: Pick<Copying, "from" | "sources">, line: number): Promise<Bytes> {
    if (from.kind === "text") return textAsTar(sources[0]!, from.text);
    if (from.kind === "stage") throw new Error("a stage is no archive");
    const { teamId } = this.build;
    if ((await this.ground.files.has(teamId, from.hash)) === undefined)
      throw refused(line, "the uploaded files are gone", "Upload them again, and build again.");
    return asTar(this.ground.files.read(teamId, from.hash));
  }

  /** Starts what the template starts, waits until it is ready. */
  async #finish(shop: Workshop, defaults: Defaults): Promise<void> {
    const { log } = this.reports;
    const { start, ready } = this.#plan;
    const started = performance.now();
    await this.reports.reached(this.#total, this.#total);
    log.at(this.#total);
    log.say("step", start ? `template, with ${textOf(start)}` : "template");
    try {
      if (start) await shop.start(asRun(start, defaults, this.#plan.syntax));
      if (ready) await this.#ready(shop, ready, defaults);
      else if (start) await this.#settle(shop);
    } catch (thrown) {
      this.reports.signal.throwIfAborted();
      const error = WrennError.from(thrown);
      throw new WrennError(error.code, `the template did not become ready: ${error.message}`, {
        remedy: error.remedy,
        details: { step: "finalize" },
      });
    } finally {
      log.endLines();
    }
    await shop.must(["sync"]);
    log.say("done", seconds(started));
  }

  async #settle(shop: Workshop): Promise<void> {
    await Bun.sleep(settleMs);
    if (!(await shop.isStarted())) this.reports.log.say("warn", "the start command has ended already");
  }

  /** Failures before the start period is over are not counted (Wrenn templates reference, 1.5). */
  async #ready(shop: Workshop, check: ReadyCheck, defaults: Defaults): Promise<void> {
    const run = { ...asRun(check.command, defaults, this.#plan.syntax), timeoutSec: check.timeoutSec };
    const begun = performance.now();
    const deadlineMs = (check.startSec + (check.retries + 1) * check.intervalSec) * 1000;
    for (let [tries, failures] = [1, 0]; ; tries++) {
      const status = await shop.run(run).catch((thrown) => (isOvertime(thrown) ? -1 : Promise.reject(thrown)));
      if (status === 0) return;
      const elapsedMs = performance.now() - begun;
      if (elapsedMs >= check.startSec * 1000) failures++;
      const isOver = check.retries > 0 && (failures > check.retries || elapsedMs > deadlineMs);
      if (isOver) throw new WrennError("timeout", `${textOf(check.command)} failed ${tries} times`, readyRemedy);
      if (tries % tellEvery === 0) this.reports.log.say("info", `not ready after ${tries} checks`);
      await Bun.sleep(check.intervalSec * 1000);
      this.reports.signal.throwIfAborted();
    }
  }

  async #keep(shop: Workshop, key: string, diskOnly = false): Promise<SnapshotRow> {
    const name = `build/${this.build.id}/${this.build.attempts}/${key.slice(0, 16)}`;
    const snapshot = await shop.checkpoint(name, diskOnly);
    const kept: Kept = { snapshotId: snapshot.id, hostId: snapshot.hostId };
    await this.ground.cache.put(this.build.teamId, key, kept);
    return snapshot;
  }
}

const listedStates = states.filter((state) => !hiddenStates.includes(state));

const readyRemedy = { remedy: "Try the check in a sandbox, or give it more time with --start-period." };

/** Makes an account with password-less sudo, with what the image has for that: shadow's programs, or the guest's BusyBox. */
const makeAccount = `set -e
id -u "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1" 2>/dev/null ||
  /usr/local/lib/wrenn/busybox adduser -D "$1"
mkdir -p /etc/sudoers.d && echo "$1 ALL=(ALL:ALL) NOPASSWD:ALL" >"/etc/sudoers.d/$1" && chmod 0440 "/etc/sudoers.d/$1"`;

const isOvertime = (thrown: unknown): boolean => thrown instanceof WrennError && thrown.code === "timeout";

const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;

const textOf = (command: Command): string => ("shell" in command ? command.shell : command.argv.join(" "));

const asRun = (command: Command, { user, workdir: cwd, env }: Defaults, syntax: Plan["syntax"]): Run => ({
  ...{ user, cwd, env, timeoutSec: undefined },
  argv: "shell" in command ? [...shellOf(syntax), command.shell] : command.argv,
});

/** The part of a path before its first pattern. */
function fixedPart(path: string): string {
  const parts = path.split("/");
  const pattern = parts.findIndex((part) => /[*?[]/.test(part));
  return pattern < 0 ? path : parts.slice(0, pattern).join("/");
}

/** An error with the instruction that it came from. */
function at({ instruction, step }: Action, thrown: unknown): WrennError {
  const error = WrennError.from(thrown);
  const { line, text } = instruction;
  const details = { ...error.details, step: String(step), ...(line > 0 && { line: String(line) }) };
  if (error.details?.line !== undefined)
    return new WrennError(error.code, error.message, { remedy: error.remedy, details });
  const what = instruction.do === "run" ? `failed to run command '${shown(instruction.command)}'` : text;
  const prefix = line > 0 ? `line ${line}: ` : "";
  return new WrennError(error.code, `${prefix}${what}: ${error.message}`, {
    remedy: error.remedy,
    details,
    cause: error.cause,
  });
}

/** A command in an error: its first line, cut where nobody reads on. */
const shown = (command: Command): string => textOf(command).split("\n")[0]!.slice(0, 200);

async function* textAsTar(name: string, text: string): Bytes & AsyncGenerator<Uint8Array> {
  const writer = pack();
  writer.entry({ name, mode: 0o644 }, text);
  writer.finalize();
  for await (const chunk of writer) yield chunk as Uint8Array;
}
