import type { Log } from "../../log.ts";
import { Rounds } from "../../rounds.ts";
import type { Volumes } from "../e2b/volumes.ts";

const atOnce = 20;

/**
 * Removes the volumes of deleted teams from their hosts: when a team is deleted here, and now and then those whose host
 * was away. Nobody waits for it: the files are out of everybody's reach from the moment at which the team is gone.
 */
export class VolumeSweeper implements AsyncDisposable {
  readonly #rounds: Rounds;

  constructor(
    readonly volumes: Volumes,
    readonly log: Log,
    everyMs: number,
  ) {
    this.#rounds = new Rounds(
      everyMs,
      () => this.#look(),
      (err) => log.warn({ err }, "volumes of deleted teams were not removed; tried again later"),
    );
  }

  /** Looks once; calls meanwhile share it. */
  look(): Promise<void> {
    return this.#rounds.run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
  }

  async #look(): Promise<void> {
    for (const row of await this.volumes.ground.store.ownerless(atOnce))
      await this.volumes
        .drop(row)
        .catch((err) => this.log.warn({ err, volume: row.id, host: row.hostId }, "a volume was not removed yet"));
  }
}
