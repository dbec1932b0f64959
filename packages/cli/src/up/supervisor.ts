import { closeSync, openSync, statSync } from "node:fs";
import { readFile, rename } from "node:fs/promises";
import { Failure } from "../output.ts";
import type { LockedChild } from "./lock.ts";
import { type Identity, identityOf, isRunning, stop } from "./processes.ts";

/** What a child is started with, and what tells that it is ready. */
export type ChildPlan = {
  name: string;
  /** Made anew for each start: an address learned from the first is kept by the next. */
  command: () => string[];
  env: () => Record<string, string>;
  log: string;
  stopSignal: NodeJS.Signals;
  /** How long it may take to end when asked to. */
  stopPatienceMs: number;
  readyTimeoutMs: number;
  /** Resolves with what the ready child said; given its standard output and its pid. */
  ready: (child: Starting) => Promise<string>;
};

/** A child that is not ready yet. */
export type Starting = { pid: number; stdout: ReadableStream<Uint8Array>; running: () => boolean };

/** What a supervisor tells while it works. */
export type Reports = {
  onStart: (child: LockedChild) => Promise<void>;
  onRestart: (name: string, why: string) => void;
  /** A child that cannot be kept running. */
  onGiveUp: (failure: Failure) => void;
};

/** A log is turned over at start when it is larger: two of them hold weeks of messages and a few MiB of disk. */
const maxLogBytes = 8 * 1024 * 1024;

/** Deaths in a row, each soon after its start, after which another try is no help. */
const maxFastDeaths = 5;
const fastDeathMs = 10_000;
const firstDelayMs = 100;

type Problem = { problem: string };

/** Keeps one program running: starts it, waits until it is ready, starts it again when it dies. */
export class Supervised {
  readonly plan: ChildPlan;
  readonly #reports: Reports;
  #process: Bun.Subprocess<"ignore", "pipe", number> | undefined;
  #identity: Identity | undefined;
  #stopping = false;
  #fastDeaths = 0;

  constructor(plan: ChildPlan, reports: Reports) {
    this.plan = plan;
    this.#reports = reports;
  }

  /** Starts the program and returns what it said when ready. Throws a Failure with the end of its log. */
  async start(): Promise<string> {
    await turnOver(this.plan.log);
    const said = await this.#launch();
    void this.#watch();
    return said;
  }

  /** Asks the program to end and waits for it; kills it when it takes too long. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#identity) await stop(this.#identity, this.plan.stopSignal, this.plan.stopPatienceMs);
    await this.#process?.exited;
  }

  async #launch(): Promise<string> {
    const { plan } = this;
    const log = openSync(plan.log, "a", 0o600);
    try {
      this.#process = Bun.spawn(plan.command(), {
        env: { ...process.env, ...plan.env() },
        stdin: "ignore",
        stdout: "pipe",
        stderr: log,
        // A Ctrl-C in the terminal reaches this program alone, which then ends its children in order.
        detached: true,
      });
    } finally {
      closeSync(log);
    }
    const child = this.#process;
    this.#identity = identityOf(child.pid);
    if (this.#identity)
      await this.#reports.onStart({ ...this.#identity, name: plan.name, stopSignal: plan.stopSignal });
    const running = () => child.exitCode === null && child.signalCode === null;
    const { promise: late, resolve: onLate } = Promise.withResolvers<Problem>();
    const timer = setTimeout(
      () => onLate({ problem: `was not ready after ${plan.readyTimeoutMs / 1000} s` }),
      plan.readyTimeoutMs,
    );
    const dead = child.exited.then((): Problem => ({ problem: `ended with ${endOf(child)} before it was ready` }));
    const said = await Promise.race([plan.ready({ pid: child.pid, stdout: child.stdout, running }), late, dead]);
    clearTimeout(timer);
    if (typeof said === "string") return said;
    if (this.#identity && isRunning(this.#identity)) await stop(this.#identity, "SIGKILL", 0);
    throw await this.#failure(said.problem);
  }

  async #watch(): Promise<void> {
    for (;;) {
      const startedAt = performance.now();
      const child = this.#process!;
      await child.exited;
      if (this.#stopping) return;
      this.#fastDeaths = performance.now() - startedAt < fastDeathMs ? this.#fastDeaths + 1 : 1;
      if (this.#fastDeaths >= maxFastDeaths)
        return this.#reports.onGiveUp(
          await this.#failure(`ended ${maxFastDeaths} times in a row, last with ${endOf(child)}`),
        );
      this.#reports.onRestart(this.plan.name, endOf(child));
      await Bun.sleep(firstDelayMs * 2 ** (this.#fastDeaths - 1));
      if (this.#stopping) return;
      await this.#launch().catch(() => {}); // its end is counted by the next round
    }
  }

  async #failure(what: string): Promise<Failure> {
    const tail = (await readFile(this.plan.log, "utf8").catch(() => "")).trimEnd().split("\n").slice(-12).join("\n");
    return new Failure(`${this.plan.name} ${what}`, `The end of ${this.plan.log}:\n${tail}`);
  }
}

const endOf = ({
  signalCode,
  exitCode,
}: {
  signalCode?: string | number | null | undefined;
  exitCode: number | null;
}): string => (signalCode ? String(signalCode) : `exit code ${exitCode}`);

async function turnOver(log: string): Promise<void> {
  const size = statSync(log, { throwIfNoEntry: false })?.size ?? 0;
  if (size > maxLogBytes) await rename(log, `${log}.1`);
}

/** Reads the ready line of our own programs, `{"ready":true,"address":"http://..."}`, then lets the rest pass. */
export async function readyLine({ stdout }: Starting): Promise<string> {
  const reader = stdout.getReader();
  const decoder = new TextDecoder();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return new Promise<never>(() => {}); // the end of the process is reported by its exit
    text += decoder.decode(value, { stream: true });
    const address = addressIn(text);
    if (address === undefined) continue;
    void drain(reader);
    return address;
  }
}

function addressIn(text: string): string | undefined {
  for (const line of text.split("\n").slice(0, -1))
    try {
      const { ready, address } = JSON.parse(line) as { ready?: boolean; address?: string };
      if (ready === true && typeof address === "string") return address;
    } catch {
      // Something else a program printed.
    }
  return undefined;
}

async function drain(reader: { read(): Promise<{ done: boolean }> }): Promise<void> {
  while (!(await reader.read()).done);
}

/** Whether `setpriv` of util-linux is here; BusyBox has one without the option that is needed. */
const canTie = (): boolean =>
  Bun.which("setpriv") !== null && Bun.spawnSync(["setpriv", "--pdeathsig=TERM", "true"]).exitCode === 0;

/** The command line, made to end with this process where the system can: a killed parent then leaves no child. */
export const tied = (command: readonly string[], signal: "TERM" | "INT"): string[] =>
  canTie() ? ["setpriv", `--pdeathsig=${signal}`, "--", ...command] : [...command];
