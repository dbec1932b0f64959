import { type SandboxId, version, WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { Admission } from "./admission.ts";
import type { Flows } from "./drivers/ports.ts";
import { change, refuseUnheld } from "./egress/keep.ts";
import type { Journal } from "./journal.ts";
import { type Machine, recordOf } from "./machine.ts";
import {
  checkpointPaused,
  create,
  findSnapshot,
  type Kitchen,
  removeSnapshot,
  snapshot,
  startFrom,
} from "./recipes.ts";
import type { NetworkSpec, SandboxRecord, SandboxSpec, SnapshotRecord } from "./record.ts";
import { randomToken } from "./rehearsal.ts";
import { Sandbox } from "./sandbox.ts";
import { Turns } from "./turns.ts";

/** Layers deeper than this cost every read of the guest; a pause then merges them. */
const deepestLayers = 8;

/** Each copies up to some hundred MiB of memory while its VM stands still. */
const pausesAtOnce = 4;

/** How often time-outs are looked at: they are whole seconds. */
const reaperPeriodMs = 500;

/** The sandboxes of this host. Every public method is one recipe: it changes one sandbox, wholly or not at all. */
export class Sandboxes implements AsyncDisposable {
  readonly #byId = new Map<SandboxId, Sandbox>();
  readonly #watchers = new Set<(record: Readonly<SandboxRecord>) => void>();
  readonly #reaper: Timer;
  readonly journal: Journal;

  constructor(
    readonly kitchen: Kitchen,
    readonly log: Logger,
    readonly admission = new Admission(kitchen.paths.root),
  ) {
    this.journal = kitchen.journal;
    this.#reaper = setInterval(() => this.#reap(), reaperPeriodMs);
  }

  /**
   * Creates and starts. Answers what the first call answered when id and run are the same; else `conflict`. An empty
   * `token` lets the host make one up.
   */
  async create(id: SandboxId, run: number, spec: SandboxSpec, token = ""): Promise<SandboxRecord> {
    const present = this.#byId.get(id);
    if (present) return this.#again(present, run);
    refuseUnheld(spec.network, this.kitchen.drivers.nets);
    const sandbox = this.register(newRecord(id, run, spec, token || randomToken()));
    return sandbox.exclusive(async () => {
      try {
        using _ = await this.admission.admit(spec, spec.extraDiskMib);
        using _turn = await this.kitchen.starts.take();
        const machine = await create(sandbox, this.kitchen);
        await this.#ran(sandbox, machine, { origin: spec.snapshot });
      } catch (thrown) {
        sandbox.move("fail", { reason: WrennError.from(thrown).message, machine: undefined });
        await this.#forget(sandbox);
        throw thrown;
      }
      return sandbox.record;
    });
  }

  /**
   * Saves and stops; with `diskOnly` its memory is given up. Throws `invalid_state` unless it is running; on any other
   * throw it runs on.
   */
  async pause(id: SandboxId, reason = "", diskOnly = false): Promise<SandboxRecord> {
    const sandbox = this.find(id);
    sandbox.expect("pause");
    return sandbox.exclusive(async () => {
      const { machine } = sandbox;
      sandbox.move("pause", { reason });
      let taken: SnapshotRecord | undefined;
      try {
        taken = await snapshot(sandbox, machine, this.kitchen, { kind: "pause", diskOnly });
        const diskUsedBytes = await this.kitchen.layers.usedBytes(taken.layer);
        const facts = { snapshot: taken.id, isDiskOnly: diskOnly, machine: undefined, diskUsedBytes };
        sandbox.move("paused", { reason, ...facts });
      } catch (thrown) {
        if (await this.#runsOn(sandbox, machine)) sandbox.move("ready", {}, machine);
        if (taken) await removeSnapshot(taken.id, this.kitchen);
        throw thrown;
      }
      await machine.held.disposeAsync();
      await this.#flattenIfDeep(sandbox);
      return sandbox.record;
    });
  }

  /**
   * Starts a paused sandbox where it stopped, or boots it when its memory was not kept or is not wanted (`diskOnly`).
   * Throws `invalid_state` unless it is paused; on any other throw it stays so.
   */
  async resume(id: SandboxId, run: number, { timeoutSec, diskOnly, network }: ResumeWish = {}): Promise<SandboxRecord> {
    const sandbox = this.find(id);
    sandbox.expect("resume");
    return sandbox.exclusive(async () => {
      if (network) sandbox.note({ spec: { ...sandbox.record.spec, network } }); // its machine starts with it
      const spec = { ...sandbox.record.spec, ...(timeoutSec !== undefined && { timeoutSec }) };
      const from = findSnapshot(this.kitchen, sandbox.record.snapshot ?? "");
      await this.#restart(sandbox, { event: "resume", run, from, diskOnly, facts: { spec } });
      return sandbox.record;
    });
  }

  /**
   * A point in time to come back to, of a running or paused sandbox, which stays as it is. Whoever is about to create
   * sandboxes from it says how many `children`: they are begun meanwhile.
   */
  async checkpoint(id: SandboxId, diskOnly = false, children = 0): Promise<SnapshotRecord> {
    const sandbox = this.find(id);
    return sandbox.exclusive(async () => {
      if (sandbox.record.state === "paused") {
        const same = await checkpointPaused(sandbox, this.kitchen);
        sandbox.tell({ origin: same.id });
        return same;
      }
      const wanted = { kind: "checkpoint", diskOnly, children } as const;
      const taken = await snapshot(sandbox, sandbox.machine, this.kitchen, wanted).catch(async (thrown) => {
        sandbox.note({ nextLayer: undefined });
        await this.#runsOn(sandbox, sandbox.machine);
        await this.kitchen.layers.collect();
        throw thrown;
      });
      sandbox.tell({ origin: taken.id });
      return taken;
    });
  }

  /** Puts a running or paused sandbox back to a checkpoint; it runs then. On any throw it is as it was. */
  async rollback(id: SandboxId, run: number, snapshotId: string, network?: NetworkSpec): Promise<SandboxRecord> {
    const sandbox = this.find(id);
    const from = findSnapshot(this.kitchen, snapshotId);
    return sandbox.exclusive(async () => {
      if (network) sandbox.note({ spec: { ...sandbox.record.spec, network } });
      const event = sandbox.record.state === "paused" ? "resume" : "rollback";
      await this.#restart(sandbox, { event, run, from, facts: { origin: from.id } });
      return sandbox.record;
    });
  }

  /** Removes a checkpoint; absent is fine. What came from it comes from the one before it then. */
  async deleteSnapshot(id: string): Promise<void> {
    const { snapshots } = this.journal;
    const found = snapshots.get(id);
    if (found?.kind !== "checkpoint") return;
    const { parent } = found;
    for (const row of snapshots.all()) if (row.parent === id) snapshots.put({ ...row, parent });
    for (const sandbox of this.#byId.values()) if (sandbox.record.origin === id) sandbox.tell({ origin: parent });
    await removeSnapshot(id, this.kitchen);
    await this.kitchen.layers.collect();
  }

  /** Removes a sandbox in any state, and all its files. Absent is fine. Its checkpoints stay. */
  async destroy(id: SandboxId, reason = ""): Promise<void> {
    const sandbox = this.#byId.get(id);
    await sandbox?.exclusive(async () => {
      if (!this.#byId.has(id)) return; // another call was faster
      const machine = sandbox.phase.at === "running" ? sandbox.phase.machine : undefined;
      if (sandbox.can("stop")) sandbox.move("stop", { reason }); // else a destroy that failed half-way is finished
      await this.finishDestroy(sandbox, machine, reason);
    });
  }

  /** Removes a sandbox that is paused in this very incarnation; any other stays. For files that are elsewhere too. */
  async destroyPaused(id: SandboxId, run: number): Promise<void> {
    const sandbox = this.#byId.get(id);
    await sandbox?.exclusive(async () => {
      if (sandbox.record.state !== "paused" || sandbox.record.run !== run || !this.#byId.has(id)) return;
      sandbox.move("stop", {});
      await this.finishDestroy(sandbox, undefined, "");
    });
  }

  /** The rest of a destroy that is already journaled: also what a restarted agent finishes. */
  async finishDestroy(sandbox: Sandbox, machine: Machine | undefined, reason: string): Promise<void> {
    await machine?.held.disposeAsync();
    const paused = this.journal.snapshots.all().filter((row) => row.sandbox === sandbox.id && row.kind === "pause");
    for (const { id } of paused) await removeSnapshot(id, this.kitchen);
    sandbox.move("gone", { reason, machine: undefined });
    await this.#forget(sandbox);
  }

  /** Changes the inactivity time-out; 0 means never. Counts as activity. */
  async setTimeout(id: SandboxId, timeoutSec: number): Promise<SandboxRecord> {
    const sandbox = this.find(id);
    sandbox.touch();
    sandbox.note({ spec: { ...sandbox.record.spec, timeoutSec } });
    return sandbox.record;
  }

  /** Replaces what it may reach: at once while it runs, else from its next start on. On a throw it is as before. */
  async setNetwork(id: SandboxId, network: NetworkSpec): Promise<void> {
    refuseUnheld(network, this.kitchen.drivers.nets);
    const sandbox = this.find(id);
    await sandbox.exclusive(async () => {
      const { spec } = sandbox.record;
      sandbox.note({ spec: { ...spec, network } });
      if (sandbox.phase.at !== "running") return;
      try {
        await change(sandbox, sandbox.phase.machine, this.kitchen);
      } catch (thrown) {
        sandbox.note({ spec });
        throw thrown;
      }
    });
  }

  /** What it reached and was refused in the last hour; nothing is known of one that does not run. */
  async flows(id: SandboxId): Promise<Flows> {
    const { phase } = this.find(id);
    return (phase.at === "running" && (await phase.machine.nic.flows?.())) || { allowed: [], denied: [] };
  }

  /** The sandbox. Throws `not_found`. */
  find(id: SandboxId): Sandbox {
    const sandbox = this.#byId.get(id);
    if (sandbox) return sandbox;
    throw new WrennError("not_found", `this host has no sandbox ${id}`, { details: { kind: "sandbox", id } });
  }

  /** Every sandbox's row. */
  list(): SandboxRecord[] {
    return [...this.#byId.values()].map((sandbox) => sandbox.record);
  }

  /** Every sandbox. */
  all(): Iterable<Sandbox> {
    return this.#byId.values();
  }

  /** Calls `listener` after every change until the signal is aborted. */
  watch(listener: (record: Readonly<SandboxRecord>) => void, signal: AbortSignal): void {
    this.#watchers.add(listener);
    signal.addEventListener("abort", () => this.#watchers.delete(listener), { once: true });
  }

  /** Takes a row into care: a new sandbox, or one that the journal remembers. */
  register(record: SandboxRecord): Sandbox {
    const sandbox = new Sandbox(record, this.journal, (changed) => {
      for (const watcher of this.#watchers) watcher(changed);
    });
    sandbox.note({});
    this.#byId.set(record.id, sandbox);
    return sandbox;
  }

  /** Takes an adopted machine into care, as it was before the agent was restarted. */
  adopted(sandbox: Sandbox, machine: Machine): void {
    this.#watchVm(sandbox, machine);
  }

  /**
   * Pauses everything that runs, a few at a time: for a shutdown that must lose nothing. What fails, or has not begun
   * when `budgetMs` is over, is logged; those VMs run on and are adopted by the next agent.
   */
  async pauseAll(reason: string, budgetMs = Number.POSITIVE_INFINITY): Promise<void> {
    const running = this.list().filter((record) => record.state === "running");
    const deadline = performance.now() + budgetMs;
    const turns = new Turns(pausesAtOnce);
    await Promise.all(
      running.map(async ({ id }) => {
        using _ = await turns.take();
        if (performance.now() > deadline) return this.log.warn({ id }, "not paused in time: its VM runs on");
        await this.pause(id, reason).catch((error) => this.log.error({ id, error }, "not paused: its VM runs on"));
      }),
    );
  }

  /** Lets go of everything; VMs that run go on, to be adopted. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#reaper);
    for (const { phase } of this.#byId.values()) if (phase.at === "running") await phase.machine.vm.detach();
  }

  async #again(present: Sandbox, run: number): Promise<SandboxRecord> {
    if (present.record.run === run) return present.exclusive(async () => present.record);
    throw new WrennError("conflict", `the sandbox ${present.id} exists`, { details: { id: present.id } });
  }

  /** Resume and roll back: a new machine from a snapshot; only when it has taken over is what was before let go. */
  async #restart(sandbox: Sandbox, { event, run, from, diskOnly, facts }: Restart): Promise<void> {
    const former = sandbox.phase.at === "running" ? sandbox.phase.machine : undefined;
    const { run: formerRun, snapshot: formerSnapshot, machine: formerMachine, spec } = sandbox.record;
    // The snapshot stands in the row meanwhile: an agent killed half-way finds the sandbox paused at it.
    sandbox.move(event, { run, snapshot: from.id });
    try {
      using _ = await this.admission.admit(spec);
      using _turn = await this.kitchen.starts.take();
      const machine = await startFrom(sandbox, this.kitchen, from, diskOnly);
      await this.#ran(sandbox, machine, { ...facts, snapshot: undefined });
    } catch (thrown) {
      const reason = WrennError.from(thrown).message;
      const back = { run: formerRun, snapshot: formerSnapshot, machine: formerMachine, nextLayer: undefined, reason };
      if (former) sandbox.move("ready", back, former);
      else sandbox.move("paused", back);
      await this.kitchen.layers.collect();
      throw thrown;
    }
    await former?.held.disposeAsync();
    const paused = formerSnapshot && this.journal.snapshots.get(formerSnapshot);
    if (paused && paused.kind === "pause") await removeSnapshot(paused.id, this.kitchen);
    await this.kitchen.layers.collect();
  }

  /** The machine becomes the sandbox's. On any throw the machine is gone. */
  async #ran(sandbox: Sandbox, machine: Machine, facts: Partial<SandboxRecord>): Promise<void> {
    await using undo = new AsyncDisposableStack();
    undo.use(machine.held);
    const versions = {
      ...sandbox.record.versions,
      agent_version: version,
      vmm_version: this.kitchen.drivers.vmm.version,
    };
    const { nextLayer: layer } = sandbox.record;
    const now = { layer, nextLayer: undefined, machine: recordOf(machine), startedAtMs: Date.now() };
    sandbox.move("ready", { ...facts, ...now, versions }, machine);
    undo.move();
    sandbox.touch();
    this.#watchVm(sandbox, machine);
  }

  /** Lets a machine run on after a failure. One that cannot is given up: its files stay. */
  async #runsOn(sandbox: Sandbox, machine: Machine): Promise<boolean> {
    try {
      await machine.vm.cont();
      return true;
    } catch (error) {
      this.log.error({ id: sandbox.id, error }, "the VM does not run on");
      await machine.held.disposeAsync();
      sandbox.move("fail", { reason: "its VMM did not answer any more", machine: undefined });
      return false;
    }
  }

  /** A VM that ends unasked: switched off from inside it is stopped, anything else is an error that keeps the files. */
  #watchVm(sandbox: Sandbox, machine: Machine): void {
    void machine.vm.exited.then((how) =>
      sandbox.exclusive(async () => {
        if (sandbox.phase.at !== "running" || sandbox.phase.machine !== machine) return;
        this.log.warn({ id: sandbox.id, how }, "the VM ended by itself");
        if (how === "exit status 0") {
          sandbox.move("stop", { reason: "switched off from inside" });
          return this.finishDestroy(sandbox, machine, "switched off from inside");
        }
        await machine.held.disposeAsync();
        sandbox.move("fail", { reason: `the VM ended: ${how}`, machine: undefined });
      }),
    );
  }

  async #flattenIfDeep(sandbox: Sandbox): Promise<void> {
    const { layers } = this.kitchen;
    const layer = sandbox.record.layer!;
    if (layers.depth(layer) < deepestLayers) return;
    const sharers = this.journal.snapshots.all().filter((row) => row.layer === layer).length;
    await layers
      .flatten(layer, sharers)
      .catch((error) => this.log.warn({ id: sandbox.id, error }, "layers not merged"));
  }

  async #forget(sandbox: Sandbox): Promise<void> {
    this.journal.sandboxes.remove(sandbox.id);
    this.#byId.delete(sandbox.id);
    await this.kitchen.layers.collect();
  }

  #reap(): void {
    const now = Date.now();
    for (const sandbox of this.#byId.values()) {
      const { id, state, spec, lastActiveAtMs } = sandbox.record;
      if (state !== "running" || spec.timeoutSec === 0) continue;
      if (sandbox.activeRequests > 0) sandbox.touch();
      else if (now - lastActiveAtMs >= spec.timeoutSec * 1000) {
        const act = spec.timeoutAction === "kill" ? this.destroy(id, "ttl_expired") : this.pause(id, "ttl_expired");
        act.catch((error) => {
          sandbox.touch(); // tried again after another time-out, not every half second
          this.log.error({ id, error }, "the time-out action failed");
        });
      }
    }
  }
}

/** What a resume changes: the time-out, and whether the memory that was kept is given up. */
export type ResumeWish = {
  timeoutSec?: number | undefined;
  diskOnly?: boolean | undefined;
  network?: NetworkSpec | undefined;
};

type Restart = {
  event: "resume" | "rollback";
  run: number;
  from: SnapshotRecord;
  diskOnly?: boolean | undefined;
  facts: Partial<SandboxRecord>;
};

function newRecord(id: SandboxId, run: number, spec: SandboxSpec, token: string): SandboxRecord {
  const now = Date.now();
  return {
    ...{ id, run, spec, token, templateKey: "", defaultUser: "", state: "starting", reason: "", version: 1 },
    ...{ createdAtMs: now, startedAtMs: 0, lastActiveAtMs: now, versions: {} },
    ...{ layer: undefined, nextLayer: undefined, machine: undefined, snapshot: undefined, origin: undefined },
    diskUsedBytes: 0,
  };
}
