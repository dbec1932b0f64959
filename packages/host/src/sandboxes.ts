import { rm, statfs } from "node:fs/promises";
import { type SandboxId, version, WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { machineSize } from "./config.ts";
import type { Journal } from "./journal.ts";
import { create, flattenIfDeep, type Kitchen, pause, resume } from "./recipes.ts";
import type { SandboxRecord, SandboxSpec } from "./record.ts";
import { type Running, Sandbox } from "./sandbox.ts";

/** Below this much free disk a create or pause would likely fail half-way; it is refused before it starts. */
const minFreeDiskMib = 512;

/** How often time-outs are looked at: they are whole seconds. */
const reaperPeriodMs = 500;

/** The sandboxes of this host. Every public method is one recipe: it changes one sandbox, wholly or not at all. */
export class Sandboxes implements AsyncDisposable {
  readonly #byId = new Map<SandboxId, Sandbox>();
  readonly #watchers = new Set<(record: Readonly<SandboxRecord>) => void>();
  readonly #reaper: Timer;

  constructor(
    readonly kitchen: Kitchen,
    readonly journal: Journal,
    readonly log: Logger,
  ) {
    this.#reaper = setInterval(() => this.#reap(), reaperPeriodMs);
  }

  /** Creates and starts. Answers what the first call answered when id and run are the same; else `conflict`. */
  async create(id: SandboxId, run: number, spec: SandboxSpec): Promise<SandboxRecord> {
    const present = this.#byId.get(id);
    if (present) return this.#again(present, run);
    const sandbox = this.register(newRecord(id, run, spec));
    return sandbox.exclusive(async () => {
      try {
        await this.#admit(spec);
        const running = await create(sandbox, this.kitchen);
        this.#ran(sandbox, running);
      } catch (thrown) {
        sandbox.move("fail", { reason: WrennError.from(thrown).message, vm: undefined });
        this.#forget(sandbox);
        throw thrown;
      }
      return sandbox.record;
    });
  }

  /** Saves and stops. Throws `invalid_state` unless it is running; on any other throw it runs on. */
  async pause(id: SandboxId, reason = ""): Promise<SandboxRecord> {
    const sandbox = this.find(id);
    sandbox.expect("pause");
    return sandbox.exclusive(async () => {
      const running = sandbox.running;
      sandbox.move("pause", { reason });
      const snapshot = await pause(sandbox, running, this.kitchen).catch((thrown) => {
        sandbox.move("ready", {}, running);
        throw thrown;
      });
      sandbox.move("paused", { reason, snapshot, vm: undefined });
      await running.held.disposeAsync();
      await flattenIfDeep(sandbox, this.kitchen).catch((error) =>
        this.log.warn({ id, error }, "disk layers not merged"),
      );
      return sandbox.record;
    });
  }

  /** Starts a paused sandbox where it stopped. Throws `invalid_state` unless it is paused; on any other throw it stays so. */
  async resume(id: SandboxId, run: number, timeoutSec?: number): Promise<SandboxRecord> {
    const sandbox = this.find(id);
    sandbox.expect("resume");
    return sandbox.exclusive(async () => {
      const { run: formerRun, snapshot } = sandbox.record;
      sandbox.move("resume", { run });
      try {
        const running = await resume(sandbox, this.kitchen);
        const spec = timeoutSec === undefined ? sandbox.record.spec : { ...sandbox.record.spec, timeoutSec };
        this.#ran(sandbox, running, { spec, snapshot: undefined, layer: sandbox.record.layer + 1 });
      } catch (thrown) {
        sandbox.move("paused", { run: formerRun, vm: undefined, reason: WrennError.from(thrown).message });
        throw thrown;
      }
      if (snapshot) await rm(this.kitchen.paths.snapshot(snapshot), { recursive: true, force: true });
      return sandbox.record;
    });
  }

  /** Removes a sandbox in any state, and all its files. Absent is fine. */
  async destroy(id: SandboxId, reason = ""): Promise<void> {
    const sandbox = this.#byId.get(id);
    await sandbox?.exclusive(async () => {
      if (!this.#byId.has(id)) return; // another call was faster
      const running = sandbox.phase.at === "running" ? sandbox.phase.running : undefined;
      sandbox.move("stop", { reason });
      await this.finishDestroy(sandbox, running, reason);
    });
  }

  /** The rest of a destroy that is already journaled: also what a restarted agent finishes. */
  async finishDestroy(sandbox: Sandbox, running: Running | undefined, reason: string): Promise<void> {
    const { paths } = this.kitchen;
    await running?.held.disposeAsync();
    const { id, snapshot } = sandbox.record;
    if (snapshot) await rm(paths.snapshot(snapshot), { recursive: true, force: true });
    await rm(paths.sandbox(id), { recursive: true, force: true });
    sandbox.move("gone", { reason });
    this.#forget(sandbox);
  }

  /** Changes the inactivity time-out; 0 means never. Counts as activity. */
  async setTimeout(id: SandboxId, timeoutSec: number): Promise<SandboxRecord> {
    const sandbox = this.find(id);
    sandbox.touch();
    sandbox.note({ spec: { ...sandbox.record.spec, timeoutSec } });
    return sandbox.record;
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
    this.#byId.set(record.id, sandbox);
    sandbox.note({});
    return sandbox;
  }

  /** Takes an adopted VM into care, as it was before the agent was restarted. */
  adopted(sandbox: Sandbox, running: Running): void {
    this.#watchVm(sandbox, running);
  }

  /** Pauses everything that runs: for a shutdown that must lose nothing. Failures are logged; those VMs run on and are adopted. */
  async pauseAll(reason: string): Promise<void> {
    const running = this.list().filter((record) => record.state === "running");
    const results = await Promise.allSettled(running.map((record) => this.pause(record.id, reason)));
    for (const [i, result] of results.entries())
      if (result.status === "rejected") this.log.error({ id: running[i]!.id, error: result.reason }, "not paused");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#reaper);
  }

  async #again(present: Sandbox, run: number): Promise<SandboxRecord> {
    if (present.record.run === run) return present.exclusive(async () => present.record);
    throw new WrennError("conflict", `the sandbox ${present.id} exists`, { details: { id: present.id } });
  }

  #ran(sandbox: Sandbox, running: Running, facts: Partial<SandboxRecord> = {}): void {
    const versions = {
      ...sandbox.record.versions,
      agent_version: version,
      vmm_version: this.kitchen.drivers.vmm.version,
    };
    sandbox.move("ready", { ...facts, versions, vm: running.vm.handle, startedAtMs: Date.now() }, running);
    sandbox.touch();
    this.#watchVm(sandbox, running);
  }

  /** A VM that ends unasked: switched off from inside it is stopped, anything else is an error that keeps the files. */
  #watchVm(sandbox: Sandbox, running: Running): void {
    void running.vm.exited.then((how) =>
      sandbox.exclusive(async () => {
        if (sandbox.phase.at !== "running" || sandbox.phase.running !== running) return;
        this.log.warn({ id: sandbox.id, how }, "the VM ended by itself");
        if (how === "exit status 0") {
          sandbox.move("stop", { reason: "switched off from inside" });
          return this.finishDestroy(sandbox, running, "switched off from inside");
        }
        await running.held.disposeAsync();
        sandbox.move("fail", { reason: `the VM ended: ${how}`, vm: undefined });
      }),
    );
  }

  #forget(sandbox: Sandbox): void {
    this.journal.remove(sandbox.id);
    this.#byId.delete(sandbox.id);
  }

  async #admit(spec: SandboxSpec): Promise<void> {
    const { memoryMib } = machineSize();
    if (spec.memoryMib > memoryMib)
      throw new WrennError(
        "no_hosts_available",
        `the host has ${memoryMib} MiB of memory, ${spec.memoryMib} are asked for`,
        {
          remedy: "Ask for less memory, or add a larger host.",
        },
      );
    const disk = await statfs(this.kitchen.paths.root);
    const freeMib = Math.floor((disk.bavail * disk.bsize) / 2 ** 20);
    if (freeMib < minFreeDiskMib)
      throw new WrennError("insufficient_storage", `the host has only ${freeMib} MiB of disk left`, {
        remedy: `Free disk space on the host: at least ${minFreeDiskMib} MiB must stay free.`,
      });
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

function newRecord(id: SandboxId, run: number, spec: SandboxSpec): SandboxRecord {
  const now = Date.now();
  const token = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");
  return {
    ...{ id, run, spec, token, templateKey: "", defaultUser: "", state: "starting", reason: "", version: 1 },
    ...{
      createdAtMs: now,
      startedAtMs: 0,
      lastActiveAtMs: now,
      versions: {},
      layer: 0,
      vm: undefined,
      snapshot: undefined,
    },
  };
}
