import { randomId, WrennError } from "@wrenn/contract";
import type { Log } from "../../log.ts";
import { type BuildStore, leaseSec } from "../../store/builds/queue.ts";
import type { TemplateStore } from "../../store/builds/templates.ts";
import type { BuildError, BuildRow } from "../../store/schema/index.ts";
import { Builder, type BuilderGround, type Outcome } from "./builder.ts";
import { BuildLog } from "./log.ts";

/** How often the queue is looked at; a submission to this process is taken at once. */
const lookMs = 1_000;
/** Three are lost before a lease is. */
const holdMs = (leaseSec * 1000) / 15;
/** A build that took its server down with it this often is not tried again. */
const maxAttempts = 3;

/** What the worker stands on. */
export type WorkerGround = BuilderGround & {
  queue: BuildStore;
  templates: TemplateStore;
  log: Log;
  /** Builds that one server carries out at once. */
  atOnce: number;
};

class Cancelled extends Error {}
class Lost extends Error {}

/** Takes builds from the queue and carries them out, some at once. What it holds when it stops is taken over by others. */
export class Worker implements AsyncDisposable {
  readonly #owner = randomId();
  readonly #running = new Map<string, { control: AbortController; done: Promise<void> }>();
  readonly #timers: Timer[];
  #claiming: Promise<void> | undefined;
  #isStopped = false;

  constructor(readonly ground: WorkerGround) {
    this.#timers = [setInterval(() => this.look(), lookMs), setInterval(() => void this.#hold(), holdMs)];
    for (const timer of this.#timers) timer.unref();
  }

  /** Looks whether there is something to do. */
  look(): void {
    this.#claiming ??= this.#claim()
      .catch((err) => this.ground.log.warn({ err }, "the build queue could not be read"))
      .finally(() => {
        this.#claiming = undefined;
      });
  }

  /** Ends a build that this process carries out, now rather than when it next asks. */
  cancel(id: string): void {
    this.#running.get(id)?.control.abort(new Cancelled());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#claiming;
    const running = [...this.#running.values()];
    for (const { control } of running) control.abort(new Lost());
    await Promise.allSettled(running.map(({ done }) => done));
    await this.ground.queue.release(this.#owner).catch(() => {});
  }

  async #claim(): Promise<void> {
    while (!this.#isStopped && this.#running.size < this.ground.atOnce) {
      const build = await this.ground.queue.claim(this.#owner);
      if (!build) return;
      const control = new AbortController();
      const done = this.#carryOut(build, control).finally(() => {
        this.#running.delete(build.id);
        if (!this.#isStopped) this.look();
      });
      this.#running.set(build.id, { control, done });
    }
  }

  async #hold(): Promise<void> {
    if (this.#running.size === 0) return;
    const held = await this.ground.queue.hold(this.#owner).catch(() => undefined);
    if (!held) return; // the database is away: the lease lasts a while yet
    for (const [id, { control }] of this.#running) {
      const state = held.get(id);
      if (!state) control.abort(new Lost());
      else if (state.cancelled) control.abort(new Cancelled());
    }
  }

  async #carryOut(build: BuildRow, control: AbortController): Promise<void> {
    const { queue, log } = this.ground;
    const warn = (err: unknown) => log.warn({ err, build: build.id }, "a build's log was not written");
    const limit = AbortSignal.timeout(Math.max(0, build.startedAt!.getTime() + build.timeoutSec * 1000 - Date.now()));
    const signal = AbortSignal.any([control.signal, limit]);
    await using lines = new BuildLog(queue, build.id, warn);
    try {
      if (build.attempts > maxAttempts) throw tooOften();
      if (build.attempts > 1) lines.say("info", "taken up again after its server ended; finished steps are kept");
      const reached = async (currentStep: number, totalSteps: number) => {
        if (!(await queue.progress(build.id, this.#owner, { currentStep, totalSteps }))) throw new Lost();
      };
      const outcome = await new Builder(this.ground, build, { log: lines, reached, signal }).run();
      await this.#succeed(build, outcome, lines);
    } catch (thrown) {
      // What a broken-off call throws says less than why it was broken off.
      const cause = control.signal.aborted ? control.signal.reason : limit.aborted ? overtime(build) : thrown;
      await this.#fail(build, cause, lines);
    }
  }

  async #succeed(build: BuildRow, { snapshot, defaults, provenance }: Outcome, lines: BuildLog): Promise<void> {
    lines.say("info", "ready");
    await lines.flush();
    const { id: snapshotId, hostId, sizeBytes, vcpus, memoryMib } = snapshot;
    const version = { snapshotId, hostId, sizeBytes, vcpus, memoryMib, defaults, provenance };
    const done = { completedAt: new Date(), error: null, secret: "" };
    await this.ground.templates.complete(build.id, this.#owner, { ...version, ...done });
  }

  async #fail(build: BuildRow, thrown: unknown, lines: BuildLog): Promise<void> {
    if (thrown instanceof Lost) return; // somebody else goes on with it
    const isCancelled = thrown instanceof Cancelled;
    const error = isCancelled ? { message: "cancelled" } : errorOf(thrown);
    if (!isCancelled && WrennError.from(thrown).status >= 500)
      this.ground.log.warn({ err: thrown, build: build.id }, "a build failed");
    lines.say("error", error.message);
    await lines.flush();
    const status = isCancelled ? ("cancelled" as const) : ("failed" as const);
    const done = { status, error, completedAt: new Date(), secret: "" };
    await this.ground.queue.progress(build.id, this.#owner, done);
  }
}

function errorOf(thrown: unknown): BuildError {
  const { message, remedy, details } = WrennError.from(thrown);
  const number = (text: string | undefined) => (text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined);
  const [line, step] = [number(details?.line), number(details?.step)];
  return {
    message,
    ...(remedy && { remedy }),
    ...(line !== undefined && { line }),
    ...(step !== undefined && { step }),
  };
}

const overtime = ({ timeoutSec }: BuildRow) =>
  new WrennError("timeout", `the build did not end within ${timeoutSec} s`, { remedy: "Give it more time." });

const tooOften = () =>
  new WrennError("internal_error", "the build's server ended while it ran, several times", {
    remedy: "Look at the server's log; the build may need more memory than the machine has.",
  });
