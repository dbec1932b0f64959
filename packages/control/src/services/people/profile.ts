import { type rest, WrennError } from "@wrenn/contract";
import { localTeam } from "../../store/keys.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import type { UserRow } from "../../store/schema/index.ts";
import type { AccountGround } from "./account-ground.ts";
import { letters } from "./letters.ts";
import { hashPassword, verifyPassword } from "./passwords.ts";
import type { Person } from "./sessions.ts";

/** A closed account is erased after this, so that it can be brought back from a backup, or asked about. */
export const eraseAfterDays = 15;

/** What ends with an account. */
export type Ends = {
  /** Every API key that the person made. */
  revokeKeys(user: string): Promise<void>;
  /** A team with everything in it. */
  dissolve(caller: Person, team: string): Promise<void>;
};

/** Most people an answer names. */
const maxFound = 10;

/** What people see and change of their own account. */
export class Profile {
  constructor(
    readonly ground: AccountGround,
    readonly ends: Ends,
  ) {}

  /** The caller's account. */
  async get(caller: Person): Promise<rest.Me> {
    const user = await this.row(caller);
    const providers = await this.ground.store.users.providers(user.id);
    return {
      id: user.id,
      name: user.name,
      email: user.email,
      has_password: user.passwordHash !== null,
      providers,
      is_admin: user.isAdmin,
      team_id: caller.team,
      role: caller.role,
      mfa: user.totpSecret !== null,
      ...(caller.impersonator && { impersonated_by: caller.impersonator }),
    };
  }

  /** Changes the caller's name. */
  async rename(caller: Person, name: string): Promise<UserRow> {
    await this.ground.store.users.update(caller.user.id, { name });
    this.ground.sessions.forget();
    return await this.row(caller);
  }

  /** Changes the caller's password and ends every other session. Throws `wrong_password`, `invalid_request`, `rate_limited`. */
  async changePassword(caller: Person, body: rest.ChangePassword): Promise<void> {
    const { store, sessions, mailer, throttle } = this.ground;
    await this.ground.throttle.attempt("password_account", caller.user.id);
    const user = await this.row(caller);
    if (user.passwordHash !== null) await needPassword(user, body.current_password);
    else if (body.confirm_password !== body.new_password)
      throw new WrennError("invalid_request", "The two passwords differ.", {
        remedy: "Send the new password as confirm_password too.",
        details: { field: "confirm_password" },
      });
    const passwordHash = await hashPassword(body.new_password);
    await store.transaction(async (inside) => {
      await inside.users.update(user.id, { passwordHash });
      await inside.sessions.endAll(user.id, caller.session);
      await mailer.post(inside.mails, letters.passwordChanged(user));
    });
    await throttle.succeeded("password_account", user.id);
    this.ground.audit.note(caller, { ...ofUser(caller), action: "password_change", status: "info" });
    sessions.forget();
    mailer.ring();
  }

  /** Ends what a provider opens. Throws `not_found`, `last_login_method`. */
  async disconnect(caller: Person, provider: string): Promise<void> {
    await this.ground.store.transaction(async (inside) => {
      const user = await this.row(caller);
      const providers = await inside.users.providers(user.id);
      if (!providers.includes(provider))
        throw new WrennError("not_found", "The account is not connected to this provider.", {
          remedy: "`GET /v1/me` lists the providers.",
        });
      if (user.passwordHash === null && providers.length === 1)
        throw new WrennError("last_login_method", "Nothing else would open the account.", {
          remedy: "Set a password first.",
        });
      await inside.users.unlink(user.id, provider);
    });
    const metadata = { provider };
    this.ground.audit.note(caller, { ...ofUser(caller), action: "disconnect", status: "info", metadata });
  }

  /**
   * Closes the caller's account; teams that are the caller's alone go with it. Throws `invalid_request` for a wrong
   * confirmation, `owns_team_with_members`, `forbidden` for the last administrator.
   */
  async close(caller: Person, confirmation: string): Promise<void> {
    const { store, sessions, mailer } = this.ground;
    const user = await this.row(caller);
    if (confirmation.trim().toLowerCase() !== user.email)
      throw new WrennError("invalid_request", "The confirmation is not the account's address.", {
        remedy: "Send the address of the account as confirmation.",
        details: { field: "confirmation" },
      });
    const alone = await store.transaction(async (inside) => {
      await inside.users.lockAll();
      if (!(await inside.users.isDispensable(user))) throw lastAdministrator();
      const teams = await ownedAlone(inside, user.id);
      await inside.sessions.endAll(user.id);
      await inside.users.update(user.id, { status: "deleted", isAdmin: false, deletedAt: new Date() });
      await mailer.post(inside.mails, letters.deletionRequested(user, eraseAfterDays));
      return teams;
    });
    this.ground.audit.note(
      { ...caller, team: localTeam.id },
      { ...ofUser(caller), action: "close", status: "warning" },
    );
    await this.ends.revokeKeys(user.id);
    for (const id of alone) await this.ends.dissolve(caller, id);
    sessions.forget();
    mailer.ring();
  }

  /** People the caller shares a team with, by the beginning of their address: nobody can find out who else has an account. */
  async search(caller: Person, prefix: string): Promise<rest.FoundUser[]> {
    const rows = await this.ground.store.users.acquaintances(caller.user.id, prefix.toLowerCase(), maxFound);
    return rows.map(({ id, email }) => ({ user_id: id, email }));
  }

  /** The caller's row. */
  async row(caller: Person): Promise<UserRow> {
    const user = await this.ground.store.users.find(caller.user.id);
    if (user) return user;
    throw new WrennError("unauthorized", "The account is gone.", { remedy: "Sign up again." });
  }
}

/** The teams that somebody owns and is alone in. Throws `owns_team_with_members`. */
async function ownedAlone(store: PeopleStore, user: string): Promise<string[]> {
  const owned = (await store.teams.of(user)).filter(({ role }) => role === "owner");
  for (const team of owned) {
    if ((await store.teams.members(team.id)).length === 1) continue;
    throw new WrennError("owns_team_with_members", `Others are in your team ${team.name}.`, {
      remedy: "Hand it over, or delete it, first.",
      details: { id: team.id },
    });
  }
  return owned.map(({ id }) => id).filter((id) => id !== localTeam.id);
}

const lastAdministrator = () =>
  new WrennError("forbidden", "Nobody else administers this installation.", {
    remedy: "Make somebody else an administrator first.",
  });

const ofUser = ({ user }: Person) => ({ resource: { type: "user", id: user.id }, scope: "admin" }) as const;

/** Throws `wrong_password` unless this is the account's. */
async function needPassword(user: UserRow, password: string | undefined): Promise<void> {
  if (await verifyPassword(password ?? "", user.passwordHash)) return;
  throw new WrennError("wrong_password", "The current password is wrong.", {
    remedy: "Try again, or reset the password from the sign-in page.",
  });
}
