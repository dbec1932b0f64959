import { WrennError } from "@wrenn/contract";
import type { Log } from "../../log.ts";
import { Rounds } from "../../rounds.ts";
import type { SandboxRow } from "../../store/schema/index.ts";
import { systemCaller } from "../caller.ts";
import type { Sandboxes } from "../sandboxes.ts";

/** Times to live are whole seconds. */
const lookEveryMs = 500;
/** Sandboxes whose end is carried out at once: each is a pause or a kill, and a pause writes memory. */
const atOnce = 16;
/** A failed end is tried again after this, not at every look. */
const retryMs = 10_000;

/** Pauses or removes sandboxes whose time is up. Any replica may do it: the change is fenced by the end it saw. */
export class Deadlines implements AsyncDisposable {
  readonly #rounds: Rounds;
  readonly #failed = new Map<string, number>();

  constructor(
    readonly sandboxes: Sandboxes,
    readonly log: Log,
  ) {
    this.#rounds = new Rounds(
      lookEveryMs,
      () => this.#look(),
      (err) => log.warn({ err }, "the ends of sandboxes were not looked at"),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
  }

  async #look(): Promise<void> {
    const now = Date.now();
    for (const [id, until] of this.#failed) if (until < now) this.#failed.delete(id);
    const due = await this.sandboxes.store.due(atOnce + this.#failed.size);
    await Promise.all(due.filter(({ id }) => !this.#failed.has(id)).map((row) => this.#end(row)));
  }

  async #end(row: SandboxRow): Promise<void> {
    const caller = systemCaller(row);
    try {
      if (row.timeoutAction === "kill") await this.sandboxes.expire(caller, row.id);
      else await this.sandboxes.pause(caller, row.id, { expired: true, diskOnly: row.terms?.keepMemory === false });
    } catch (thrown) {
      // Somebody gave it more time, or another replica was faster.
      if (thrown instanceof WrennError && thrown.code === "invalid_state") return;
      this.#failed.set(row.id, Date.now() + retryMs);
      this.log.warn({ err: thrown, sandbox: row.id }, "the end of a sandbox was not carried out; tried again later");
    }
  }
}
