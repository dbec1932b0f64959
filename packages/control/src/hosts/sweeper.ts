import { type State, step } from "@wrenn/contract";
import { Rounds } from "../rounds.ts";
import { isPaused, isStored, lostStates, makingStates, movingStates } from "../store/phase.ts";
import type { SandboxRow } from "../store/schema/index.ts";
import { Adopter } from "./adopter.ts";
import { type Host, hostError } from "./host.ts";
import { record } from "./reports.ts";
import type { WatchGround } from "./watch-ground.ts";

const askMs = 10_000;
/** What a sandbox is told of when its host has never heard of it. */
const reasons: Partial<Record<State, string>> = {
  pending: "The creation was interrupted.",
  starting: "The creation was interrupted.",
  stopping: "",
};
const isOneOf = (states: readonly State[], { state }: SandboxRow): boolean => states.includes(state);
const lostReason = "The host does not have it any more.";

/** Looks now and then for what no report will settle: a silent host, and changes whose maker is gone. */
export class Sweeper implements AsyncDisposable {
  readonly #rounds: Rounds;
  readonly #adopter: Adopter;

  /** `silentFor` answers for how long the host has not been heard, `undefined` while it is. */
  constructor(
    readonly host: Host,
    readonly ground: WatchGround,
    readonly silentFor: () => number | undefined,
  ) {
    this.#adopter = new Adopter(host, ground);
    this.#rounds = new Rounds(
      ground.timings.sweepMs,
      () => this.#sweep(),
      (err) => ground.log.warn({ err }, "sweep failed"),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
  }

  /** Settles a row whose sandbox the host does not have; a change under way may yet make it, so that is left to time. */
  async settleAbsent(row: SandboxRow, abandoned = false): Promise<void> {
    const { store } = this.ground;
    if (isStored(row)) return await this.#backInStore(row);
    if (isOneOf(movingStates, row) && !abandoned) return;
    const reason = reasons[row.state] ?? lostReason;
    if (row.state === "pending" || row.state === "starting") await store.advance(row, "fail", { reason });
    else if (row.state !== "error") await store.advance(row, "gone", { reason });
  }

  /** The store has it, whatever became of its way to this host. */
  async #backInStore(row: SandboxRow): Promise<void> {
    if (isPaused(row)) return;
    if (step(row.state, "paused")) await this.ground.store.advance(row, "paused", { reason: lostReason });
    else await this.ground.store.advance(row, "gone", { reason: "" });
  }

  async #sweep(): Promise<void> {
    const { store, timings, log, fleet } = this.ground;
    const silent = this.silentFor();
    if (silent !== undefined && silent >= timings.hostLostMs) {
      if (await this.ground.hostStore.lose(this.host.id, timings.hostLostMs))
        log.warn({ host: this.host.id }, "no replica hears the host");
      const lost = await store.lose(this.host.id, timings.hostLostMs);
      if (lost.length > 0) log.warn({ host: this.host.id, sandboxes: lost.length }, "the host is out of reach");
    }
    if (silent !== undefined) return;
    // What is missing while its host is heard was given up after the host had named what it has.
    for (const { row, ageMs } of await this.ground.unsettled.on(this.host.id))
      if (isOneOf(lostStates, row) || ageMs > timings.abandonedMs || fleet.takeGivenUp(row))
        await this.#settle(row).catch((err) => {
          log.warn({ err, sandbox: row.id }, "a sandbox could not be settled yet");
          fleet.giveUp(row);
        });
      else if (isOneOf(makingStates, row) && ageMs > timings.unstartedMs) await this.#unstarted(row);
    await this.#adopter.look();
  }

  /** A creation is over when its host does not even know of it; one that comes yet is an orphan, and is removed. */
  async #unstarted(row: SandboxRow): Promise<void> {
    try {
      await this.host.rpc.getSandbox({ id: row.id }, { timeoutMs: askMs });
    } catch (thrown) {
      if (hostError(thrown).code === "not_found") await this.settleAbsent(row, true);
    }
  }

  /** Nobody works on `row` any more: the host's present word decides. */
  async #settle(row: SandboxRow): Promise<void> {
    if (row.state === "stopping") return await this.ground.remove(row);
    try {
      const { sandbox } = await this.host.rpc.getSandbox({ id: row.id }, { timeoutMs: askMs });
      await record(this.ground.store, sandbox!, { host: this.host.id, asked: row });
    } catch (thrown) {
      if (hostError(thrown).code !== "not_found") throw thrown;
      await this.settleAbsent(row, true);
    }
  }
}
