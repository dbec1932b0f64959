import { type rest, WrennError } from "@wrenn/contract";
import type { Log } from "../../log.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import type { OpenSession } from "../../store/people/sessions.ts";
import type { OwnTeam } from "../../store/people/teams.ts";
import type { SessionRow, UserRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import { Remembered } from "./remembered.ts";
import { hashToken, newSessionToken } from "./secrets.ts";
import { Uses } from "./uses.ts";

/** Where a request comes from. */
export type Client = { ip: string; userAgent: string };
/** Browsers write novels about themselves. */
const maxAgentLength = 300;

/** How a session begins: in which team, and whether an administrator acts as the user. */
export type Beginning = { team?: string; as?: { impersonatorId: string; expiresAt: Date } };

/** A caller who is signed in. */
export type Person = Caller & Required<Pick<Caller, "user" | "session" | "role">>;

/** Who is signed in. Sessions are rows, so that they end when they are told to. */
export class Sessions implements AsyncDisposable {
  readonly #open = new Remembered<OpenSession>();
  readonly #uses: Uses;

  constructor(
    readonly store: PeopleStore,
    log: Log,
  ) {
    this.#uses = new Uses((times) => store.sessions.used(times), log);
  }

  /** Signs `user` in to a team, in the transaction of `store`; answers what clients are given. */
  async begin(store: PeopleStore, user: UserRow, client: Client, more: Beginning = {}): Promise<rest.AuthResponse> {
    const team = more.team ?? (await defaultTeam(store, user)).id;
    const token = newSessionToken();
    const userAgent = client.userAgent.slice(0, maxAgentLength);
    await store.sessions.insert({
      tokenHash: hashToken(token),
      userId: user.id,
      teamId: team,
      ip: client.ip,
      userAgent,
      ...more.as,
    });
    return { token, user_id: user.id, team_id: team, email: user.email, name: user.name };
  }

  /** Who shows this token. Throws `unauthorized`, or `account_deactivated` for an account that was closed meanwhile. */
  async caller(token: string, requestId: string): Promise<Person> {
    const found = await this.#open.get(hashToken(token), (hash) => this.store.sessions.find(hash));
    if (!found) throw notSignedIn();
    const { user, team, role, id: session, impersonator } = found;
    if (user.status !== "active") throw deactivated();
    this.#uses.note(session);
    const actor = { type: "user", id: user.id, name: user.name } as const;
    return { team, actor, requestId, user, session, role, ...(impersonator && { impersonator }) };
  }

  /** Where somebody is signed in. */
  list(caller: Person): Promise<SessionRow[]> {
    return this.store.sessions.list(caller.user.id);
  }

  /** Ends one of the caller's sessions. Throws `not_found`. */
  async end(caller: Person, id: string): Promise<void> {
    const isGone = await this.store.sessions.end(caller.user.id, id);
    this.forget();
    if (!isGone)
      throw new WrennError("not_found", "There is no such session.", {
        remedy: "`GET /v1/me/sessions` lists yours.",
        details: { id },
      });
  }

  /** Ends all of the caller's sessions but the one that asks. */
  async endOthers(caller: Person): Promise<void> {
    await this.store.sessions.endAll(caller.user.id, caller.session);
    this.forget();
  }

  /** Reads everything anew: somebody's access has ended. */
  forget(): void {
    this.#open.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#uses[Symbol.asyncDispose]();
  }
}

/** The team that somebody works in first: the default one, else the one joined first, else a new one. */
export async function defaultTeam(store: PeopleStore, user: Pick<UserRow, "id" | "name">): Promise<OwnTeam> {
  return (await store.teams.of(user.id))[0] ?? (await store.teams.create(firstTeamName(user.name), user.id, true));
}

/** A name for somebody's own team, of the signs that a team's name may have. */
const firstTeamName = (name: string): string => `${name.replace(/[^\p{L}\p{N} _\-@']/gu, "").trim() || "My"}'s Team`;

const notSignedIn = () =>
  new WrennError("unauthorized", "The session has ended, or never was.", { remedy: "Sign in again." });

/** The refusal of an account that an administrator closed. */
const deactivated = () =>
  new WrennError("account_deactivated", "The account is deactivated.", {
    remedy: "Ask an administrator of this installation.",
  });
