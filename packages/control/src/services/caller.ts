import type { rest } from "@wrenn/contract";

/** Who does something: a person, a program with a key, or the server by itself. */
export type Actor = {
  readonly type: "user" | "api_key" | "system";
  readonly id: string;
  readonly name: string;
};

/** Who asks, for which team, and under which request id the answer is logged. */
export type Caller = {
  readonly team: string;
  readonly actor: Actor;
  readonly requestId: string;
  /** What an API key may do; absent for everything, and for people. */
  readonly scopes?: readonly rest.Scope[];
  /** A person who is signed in, with the session, and the role in the team. */
  readonly user?: { readonly id: string; readonly email: string; readonly name: string; readonly isAdmin: boolean };
  readonly session?: string;
  readonly role?: rest.Role;
  /** The administrator who acts as `user`. */
  readonly impersonator?: string;
};

/** The caller of what happens by itself. */
export const systemCaller = ({ teamId }: { readonly teamId: string }): Caller => ({
  team: teamId,
  actor: { type: "system", id: "system", name: "system" },
  requestId: crypto.randomUUID(),
});
