import { WrennError } from "@wrenn/contract";
import type { AttemptStore, Bucket } from "../../store/people/attempts.ts";

const minute = 60;
const hour = 3_600;

/**
 * How often a credential may be tried, by what is tried and from where. An account takes ten wrong passwords, then one
 * in 90 seconds; an address more, since people share it.
 */
const bounds = {
  login_account: { size: 10, drainSec: 15 * minute },
  login_address: { size: 60, drainSec: 10 * minute },
  signup_address: { size: 60, drainSec: hour },
  mail_recipient: { size: 5, drainSec: hour },
  mail_address: { size: 20, drainSec: hour },
  token_address: { size: 30, drainSec: 10 * minute },
  password_account: { size: 10, drainSec: 15 * minute },
  code_account: { size: 6, drainSec: 15 * minute },
  key_address: { size: 100, drainSec: minute },
  invite_team: { size: 50, drainSec: hour },
} as const satisfies Record<string, Omit<Bucket, "name">>;

/** What is limited. */
export type Limited = keyof typeof bounds;

/** Limits guessing, on all replicas together. */
export class Throttle {
  constructor(readonly store: AttemptStore) {}

  /** Notes an attempt. Throws `rate_limited`, with the seconds to wait, when there were too many. */
  async attempt(what: Limited, who: string): Promise<void> {
    const wait = await this.store.note({ name: `${what}:${who}`, ...bounds[what] });
    if (wait > 0) throw tooMany(wait);
  }

  /** Forgets the attempts that led to a success. */
  async succeeded(what: Limited, who: string): Promise<void> {
    await this.store.clear(`${what}:${who}`);
  }
}

/** The refusal of one attempt too many; the edge turns `retry_after_sec` into `Retry-After`. */
export const tooMany = (waitSec: number) =>
  new WrennError("rate_limited", "There were too many attempts.", {
    remedy: `Wait ${waitSec} seconds.`,
    details: { retry_after_sec: String(waitSec) },
  });
