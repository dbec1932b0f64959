import { readFileSync } from "node:fs";
import type { InitRequest } from "@wrenn/contract/core";
import { findUser, ownUser, type User } from "../users.ts";
import { overwrite } from "./overwrite.ts";

type Saved = { accessToken: string; envs: Record<string, string>; workdir: string; user: string; newest: string };

/** The text that is kept is padded to a multiple of this. */
const savedBytes = 1024;

/** What `/init` decides and every request reads. */
export class Identity {
  /** Empty means that no token is set and every path is open. */
  accessToken = "";
  /** Environment of every process started from now on. */
  readonly envs: Record<string, string> = {};
  defaultWorkdir = "";
  /** The present identity is one to practise with. */
  isRehearsing = false;
  /** Called when `failure` is set. */
  onFailure: () => void = () => {};
  #failure: unknown;
  #defaultUser = "";
  #newest = -1n;

  /** Why the last identity is not complete: an agent with one serves nobody. */
  get failure(): unknown {
    return this.#failure;
  }

  /** From now on nobody is served. */
  fail(cause: unknown): void {
    this.#failure = cause;
    this.onFailure();
  }

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

  /** Keeps everything in `file`, which root alone can read, for the agent that is started after this one ended. */
  save(file: string): void {
    const { accessToken, envs, defaultWorkdir: workdir } = this;
    const saved: Saved = { accessToken, envs, workdir, user: this.#defaultUser, newest: String(this.#newest) };
    const text = JSON.stringify(saved);
    // As long as most others, so that it is written in place of the one before.
    overwrite(file, text.padEnd(Math.ceil(text.length / savedBytes) * savedBytes), 0o600);
  }

  /**
   * Takes what an agent before this one has kept in `file`. Without it, one that had an identity would come back without
   * its token and be open to everyone: `isExpected` says that there was one, and then nobody is let in until `/init`
   * is told the token anew by who starts the machine again.
   */
  restore(file: string, isExpected: boolean): void {
    try {
      const saved = JSON.parse(readFileSync(file, "utf8")) as Saved;
      this.accessToken = saved.accessToken;
      Object.assign(this.envs, saved.envs);
      this.defaultWorkdir = saved.workdir;
      this.#defaultUser = saved.user;
      this.#newest = BigInt(saved.newest);
    } catch {
      if (isExpected) this.accessToken = crypto.randomUUID();
    }
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
