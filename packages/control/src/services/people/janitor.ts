import type { Log } from "../../log.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import { letters } from "./letters.ts";
import type { Mailer } from "./mailer.ts";
import { eraseAfterDays } from "./profile.ts";

/** Nothing it does is urgent; every replica looks, and what one has done the next finds done. */
const everyMs = 3_600_000;

/** Erases accounts that were closed long ago, and forgets what is of no use any more. */
export class Janitor implements AsyncDisposable {
  readonly #timer: Timer;
  #working: Promise<void> = Promise.resolve();

  constructor(
    readonly store: PeopleStore,
    readonly mailer: Mailer,
    readonly log: Log,
  ) {
    this.#timer = setInterval(() => void this.clean(), everyMs);
    this.#timer.unref();
    void this.clean();
  }

  /** Cleans now. */
  clean(): Promise<void> {
    this.#working = this.#working.then(() => this.#clean()).catch((err) => this.log.warn({ err }, "cleaning failed"));
    return this.#working;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#working;
  }

  async #clean(): Promise<void> {
    await this.store.attempts.prune();
    for (const user of await this.store.admin.closedBefore(eraseAfterDays))
      await this.store.transaction(async (inside) => {
        await inside.admin.erase(user.id);
        await this.mailer.post(inside.mails, letters.erased(user));
      });
    this.mailer.ring();
  }
}
