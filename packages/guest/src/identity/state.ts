import type { InitRequest } from "@wrenn/contract";
import { findUser, ownUser, type User } from "../users.ts";

/** What `/init` decides and every request reads. */
export class Identity {
  /** Empty means that no token is set and every path is open. */
  accessToken = "";
  /** Environment of every process started from now on. */
  readonly envs: Record<string, string> = {};
  defaultWorkdir = "";
  #defaultUser = "";
  #newest = -1n;

  /**
   * Lets calls pass in the order of their times (nanoseconds): false when one as new was seen. A call without a time
   * always passes.
   */
  advanceTo(at: bigint | undefined): boolean {
    if (at === undefined) return true;
    if (at <= this.#newest) return false;
    this.#newest = at;
    return true;
  }

  /** Takes token, user and directory from an accepted call; an empty token removes the one that is set. */
  take({ accessToken, defaultUser, defaultWorkdir }: InitRequest): void {
    if (accessToken !== undefined) this.accessToken = accessToken;
    if (defaultUser !== undefined) this.#defaultUser = defaultUser;
    if (defaultWorkdir !== undefined) this.defaultWorkdir = defaultWorkdir;
  }

  /** The account `name`, or the default one when it is empty; throws `unauthorized` when there is no such account. */
  user(name: string): User {
    const wanted = name || this.#defaultUser;
    return wanted ? findUser(wanted) : ownUser();
  }

  /** Whether `token` opens the guarded paths; takes the same time wherever the two differ. */
  accepts(token: string | null): boolean {
    return this.accessToken === "" || sameText(token ?? "", this.accessToken);
  }
}

/** Compares secrets of any length in constant time; only the lengths can be told apart. */
export function sameText(given: string, wanted: string): boolean {
  const a = Buffer.from(given);
  const b = Buffer.from(wanted);
  // the global one: node:crypto would cost 7 MiB of memory
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}
