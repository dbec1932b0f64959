import { prefixes, randomId, type rest, WrennError } from "@wrenn/contract";
import { localTeam } from "../../store/keys.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import type { InvitationRow, MemberRow, OwnTeam, TeamRow } from "../../store/people/teams.ts";
import type { Caller } from "../caller.ts";
import type { AccountGround } from "./account-ground.ts";
import { acceptAs, notMember } from "./accounts.ts";
import type { Deed } from "./audit.ts";
import { letters } from "./letters.ts";
import { hashToken, newToken } from "./secrets.ts";
import type { Person } from "./sessions.ts";

const invitationDays = 7;

/** What teams need beside accounts: what else belongs to a team, and ends with it or with a member. */
export type TeamGround = AccountGround & {
  /** Ends the API keys of a team, of one member or of all. */
  revokeKeys(team: string, user?: string): Promise<void>;
  /** Destroys every sandbox of a team. */
  emptyTeam(caller: Person, team: string): Promise<void>;
};

/** Teams, their members, and invitations. A caller acts on the team of the session; an id of another is refused alike. */
export class Teams {
  constructor(readonly ground: TeamGround) {}

  /** The teams the caller is in. */
  list(caller: Person): Promise<OwnTeam[]> {
    return this.ground.store.teams.of(caller.user.id);
  }

  /** The team that an API key speaks for. Throws `forbidden` when it is gone. */
  async ofKey({ team: id }: Caller): Promise<TeamRow> {
    const team = await this.ground.store.teams.find(id);
    if (team) return team;
    throw notMember(id);
  }

  /** Makes a team that the caller owns. */
  async create(caller: Person, name: string): Promise<OwnTeam> {
    const { store, mailer } = this.ground;
    const team = await store.transaction(async (inside) => {
      const made = await inside.teams.create(name, caller.user.id, false);
      await mailer.post(inside.mails, letters.teamCreated(caller.user, name));
      return made;
    });
    mailer.ring();
    this.#note({ ...caller, team: team.id }, "create", { type: "team", id: team.id }, { metadata: { name } });
    return team;
  }

  /** The caller's team with its members. Throws `forbidden`. */
  async get(caller: Person, id: string): Promise<{ team: OwnTeam; members: MemberRow[] }> {
    own(caller, id);
    const { store } = this.ground;
    const [team, members] = await Promise.all([store.teams.find(id), store.teams.members(id)]);
    if (!team) throw notMember(id);
    return { team: { ...team, role: caller.role, isDefault: false }, members };
  }

  /** The members of the caller's team. Throws `forbidden`. */
  async members(caller: Person, id: string): Promise<MemberRow[]> {
    own(caller, id);
    return await this.ground.store.teams.members(id);
  }

  /** Renames the caller's team. Throws `forbidden`. */
  async rename(caller: Person, id: string, name: string): Promise<void> {
    manages(caller, id);
    const team = await this.ground.store.teams.find(id);
    if (!team) throw notMember(id);
    await this.ground.store.teams.rename(id, name);
    const metadata = { old_name: team.name, new_name: name };
    this.#note(caller, "rename", { type: "team", id }, { status: "info", metadata });
  }

  /** Deletes the caller's team with everything in it. Throws `forbidden`. */
  async remove(caller: Person, id: string): Promise<void> {
    owns(caller, id);
    await this.dissolve(caller, id);
  }

  /** Deletes a team: nobody gets in from now on, then its sandboxes and volumes go. Throws `forbidden` for the installation's own. */
  async dissolve(caller: Person, id: string): Promise<void> {
    if (id === localTeam.id) throw localStays();
    const { store, sessions } = this.ground;
    const isGone = await store.transaction(async (inside) => {
      await inside.sessions.endInTeam(id);
      return await inside.teams.markDeleted(id);
    });
    if (!isGone) throw notMember(id);
    await this.ground.revokeKeys(id);
    sessions.forget();
    this.ground.audit.by(caller.actor, localTeam.id, {
      ...{ resource: { type: "team", id }, action: "delete", scope: "admin", status: "warning" },
    });
    await this.ground.emptyTeam(caller, id);
  }

  /** Makes somebody who has an account a member. Throws `forbidden`, `not_found`, `conflict`, `rate_limited`. */
  async add(caller: Person, id: string, email: string): Promise<MemberRow> {
    manages(caller, id);
    const { store, mailer, throttle, site } = this.ground;
    await throttle.attempt("invite_team", id);
    const member = await store.transaction(async (inside) => {
      const user = await inside.users.byEmail(email);
      if (user?.status !== "active")
        throw new WrennError("not_found", "Nobody with this address has an account.", {
          remedy: "Invite them: POST /v1/teams/ID/invitations.",
        });
      if (!(await inside.teams.join({ userId: user.id, teamId: id, role: "member" })))
        throw new WrennError("invalid_request", "They are a member already.", { remedy: "There is nothing to do." });
      const team = await inside.teams.find(id);
      await mailer.post(inside.mails, letters.addedToTeam(user, team!.name, site.dashboard("/")));
      return user;
    });
    mailer.ring();
    const metadata = { email, role: "member" };
    this.#note(caller, "add", { type: "member", id: member.id }, { scope: "admin", metadata });
    return { id: member.id, name: member.name, email: member.email, role: "member", joinedAt: new Date() };
  }

  /** Changes what a member is. Throws `forbidden`, `not_found`. */
  async setRole(caller: Person, target: Target, role: "admin" | "member"): Promise<void> {
    manages(caller, target.team);
    await this.ground.store.transaction(async (inside) => {
      await needMember(inside, target);
      await inside.teams.setRole(target.user, target.team, role);
    });
    this.ground.sessions.forget();
    const metadata = { new_role: role };
    this.#note(
      caller,
      "role_update",
      { type: "member", id: target.user },
      { scope: "admin", status: "info", metadata },
    );
  }

  /** Removes a member, with the sessions and keys they have in the team. Throws `forbidden`, `not_found`. */
  async expel(caller: Person, target: Target): Promise<void> {
    manages(caller, target.team);
    await this.#part(target);
    this.#note(caller, "remove", { type: "member", id: target.user }, { scope: "admin", status: "warning" });
  }

  /** Leaves the caller's team. Throws `forbidden` for the owner. */
  async leave(caller: Person, id: string): Promise<void> {
    own(caller, id);
    await this.#part({ team: id, user: caller.user.id });
    this.#note(caller, "leave", { type: "member", id: caller.user.id }, { scope: "admin", status: "info" });
  }

  /** Hands the team over; the caller stays as an administrator of it. Throws `forbidden`, `not_found`. */
  async transfer(caller: Person, target: Target): Promise<void> {
    owns(caller, target.team);
    await this.ground.store.transaction(async (inside) => {
      await needMember(inside, target);
      await inside.teams.setRole(caller.user.id, target.team, "admin");
      await inside.teams.setRole(target.user, target.team, "owner");
    });
    this.ground.sessions.forget();
    const metadata = { new_owner: target.user };
    this.#note(caller, "transfer", { type: "team", id: target.team }, { scope: "admin", status: "warning", metadata });
  }

  /** Invites an address by mail. Throws `forbidden`, `rate_limited`. */
  async invite(caller: Person, id: string, wish: rest.Invite): Promise<{ row: InvitationRow; url?: string }> {
    manages(caller, id);
    const { store, mailer, throttle, site } = this.ground;
    await throttle.attempt("invite_team", id);
    const token = newToken();
    const url = site.dashboard(`/invitation?token=${token}`);
    const row = await store.transaction(async (inside) => {
      const team = await inside.teams.find(id);
      if (!team) throw notMember(id);
      const made = await inside.teams.invite({
        ...wish,
        id: prefixes.invitation + randomId(),
        tokenHash: hashToken(token),
        teamId: id,
        invitedBy: caller.user.id,
        expiresAt: new Date(Date.now() + invitationDays * 86_400_000),
      });
      await mailer.post(inside.mails, letters.invitation(wish.email, { team: team.name, by: caller.user.name, url }));
      return made;
    });
    mailer.ring();
    const metadata = { email: wish.email, role: wish.role };
    this.#note(caller, "invite", { type: "member", id: row.id }, { scope: "admin", metadata });
    return { row, ...(!mailer.sends && { url }) };
  }

  /** The open invitations of the caller's team. Throws `forbidden`. */
  async invitations(caller: Person, id: string): Promise<InvitationRow[]> {
    manages(caller, id);
    return await this.ground.store.teams.invitations(id);
  }

  /** Takes an invitation back. Throws `forbidden`, `not_found`. */
  async revokeInvitation(caller: Person, id: string, invitation: string): Promise<void> {
    manages(caller, id);
    if (await this.ground.store.teams.revokeInvitation(id, invitation)) {
      this.#note(
        caller,
        "revoke_invitation",
        { type: "member", id: invitation },
        { scope: "admin", status: "warning" },
      );
      return;
    }
    throw new WrennError("not_found", "There is no such invitation.", { remedy: "It may have been accepted." });
  }

  /** Joins the team of an invitation to the caller's address. Throws `invalid_token`, `rate_limited`. */
  async accept(caller: Person, token: string): Promise<OwnTeam> {
    await this.ground.throttle.attempt("code_account", caller.user.id);
    const team = await this.ground.store.transaction(async (inside) => {
      const user = await inside.users.find(caller.user.id);
      const joined = await acceptAs(inside, user!, token);
      return (await inside.teams.of(caller.user.id)).find(({ id }) => id === joined)!;
    });
    const metadata = { email: caller.user.email, role: team.role };
    this.#note(
      { ...caller, team: team.id },
      "join",
      { type: "member", id: caller.user.id },
      { scope: "admin", metadata },
    );
    return team;
  }

  #note(caller: Person, action: string, resource: Deed["resource"], more: Omit<Deed, "action" | "resource">): void {
    this.ground.audit.note(caller, { ...more, action, resource });
  }

  async #part(target: Target): Promise<void> {
    const { store, sessions } = this.ground;
    await store.transaction(async (inside) => {
      await needMember(inside, target);
      await inside.sessions.endInTeam(target.team, target.user);
      await inside.teams.leave(target.user, target.team);
    });
    await this.ground.revokeKeys(target.team, target.user);
    sessions.forget();
  }
}

/** A member of a team. */
export type Target = { team: string; user: string };

async function needMember(store: PeopleStore, { team, user }: Target): Promise<void> {
  const role = await store.teams.role(user, team);
  if (role === undefined)
    throw new WrennError("not_found", "There is no such member.", { remedy: "`GET /v1/teams/ID/members` lists them." });
  if (role === "owner")
    throw new WrennError("forbidden", "The owner of a team stays its owner.", {
      remedy: "Hand the team over first: POST /v1/teams/ID/transfer.",
    });
}

function own(caller: Person, id: string): void {
  if (caller.team === id) return;
  throw new WrennError("forbidden", "The session is for another team.", {
    remedy: "Switch to this team first: POST /v1/auth/switch-team.",
  });
}

function manages(caller: Person, id: string): void {
  own(caller, id);
  if (caller.role === "member") throw notAllowed("an owner or administrator");
}

function owns(caller: Person, id: string): void {
  own(caller, id);
  if (caller.role !== "owner") throw notAllowed("the owner");
}

const notAllowed = (who: string) =>
  new WrennError("forbidden", `Only ${who} of the team may do this.`, { remedy: "Ask them." });

const localStays = () =>
  new WrennError("forbidden", "The installation's own team cannot be deleted.", {
    remedy: "Delete what is in it; the team stays.",
  });
