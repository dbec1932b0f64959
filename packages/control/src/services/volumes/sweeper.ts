import type { Log } from "../../log.ts";
import { Rounds } from "../../rounds.ts";
import type { Volumes } from "../e2b/volumes.ts";

/** Nobody waits for it: the files are out of everybody's reach from the moment at which the team is gone. */
const lookEveryMs = 3_000;
const atOnce = 20;

/** Removes the volumes of deleted teams from their hosts, as soon as these are there. Every replica does. */
export class VolumeSweeper implements AsyncDisposable {
  readonly #rounds: Rounds;

  constructor(
    readonly volumes: Volumes,
    readonly log: Log,
  ) {
    this.#rounds = new Rounds(
      lookEveryMs,
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
