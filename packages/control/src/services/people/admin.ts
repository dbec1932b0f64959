import { type rest, WrennError } from "@wrenn/contract";
import { localTeam } from "../../store/keys.ts";
import { type Owned, perPage } from "../../store/people/admin.ts";
import type { AccountGround } from "./account-ground.ts";
import { activate, notMember } from "./accounts.ts";
import type { Deed } from "./audit.ts";
import type { Person } from "./sessions.ts";
import type { Teams } from "./teams.ts";

/** An administrator who acts as somebody does so for an hour. */
const impersonationMs = 3_600_000;

/** What ends with an account that is disabled. */
export type Ends = {
  revokeKeys(of: { createdBy: string }): Promise<void>;
  destroy(caller: Person, sandboxes: readonly Owned[]): void;
};

/** What administrators of the installation do. Everything is in the audit log of the installation's own team. */
export class Admin {
  constructor(
    readonly ground: AccountGround,
    readonly all: Teams,
    readonly ends: Ends,
  ) {}

  /** A page of all teams. */
  async teams(page: number): Promise<rest.AdminTeams> {
    const { rows, total } = await this.ground.store.admin.teams(page);
    return { teams: rows, ...pageOf(page, total) };
  }

  /** A page of all accounts. */
  async users(page: number): Promise<rest.AdminUsers> {
    const { rows, total } = await this.ground.store.admin.users(page);
    return { users: rows, ...pageOf(page, total) };
  }

  /** Lets a team's sandboxes run on its own hosts only; that cannot be taken back. Throws `not_found`. */
  async setByoc(caller: Person, team: string): Promise<void> {
    if (!(await this.ground.store.admin.setByoc(team))) throw notMember(team);
    this.#note(caller, "set_byoc", { type: "team", id: team }, { status: "info", metadata: { enabled: "true" } });
  }

  /** Deletes a team with everything in it. Throws `not_found`, `forbidden`. */
  async deleteTeam(caller: Person, team: string): Promise<void> {
    await this.all.dissolve(caller, team);
  }

  /**
   * Opens or closes an account. One that is closed is out at once, with its keys, and with the sandboxes of its teams.
   * Throws `not_found`, and `invalid_request` for one's own.
   */
  async setActive(caller: Person, id: string, isActive: boolean): Promise<void> {
    const { store, sessions } = this.ground;
    if (id === caller.user.id && !isActive)
      throw new WrennError("invalid_request", "One's own account cannot be disabled.", {
        remedy: "Ask another administrator.",
      });
    const user = await this.#user(id);
    if (user.status === "inactive" && isActive) await store.transaction((inside) => activate(inside, user));
    else await store.users.update(id, { status: isActive ? "active" : "disabled" });
    if (!isActive) {
      await store.sessions.endAll(id);
      await this.ends.revokeKeys({ createdBy: id });
      sessions.forget();
      this.ends.destroy(caller, await store.admin.sandboxesOf(id));
    }
    const metadata = { email: user.email };
    const action = isActive ? "activate" : "deactivate";
    this.#note(caller, action, { type: "user", id }, { status: isActive ? "success" : "warning", metadata });
  }

  /** Makes somebody an administrator, or no longer. Throws `not_found`, and `forbidden` for the last one. */
  async setAdmin(caller: Person, id: string, isAdmin: boolean): Promise<void> {
    const { store, sessions } = this.ground;
    await store.transaction(async (inside) => {
      await inside.users.lockAll();
      const user = await inside.users.find(id);
      if (!user) throw noUser(id);
      if (!isAdmin && !(await inside.users.hasOtherAdmin(id)))
        throw new WrennError("forbidden", "Nobody else administers this installation.", {
          remedy: "Make somebody else an administrator first.",
        });
      await inside.users.update(id, { isAdmin });
    });
    sessions.forget();
    this.#note(caller, isAdmin ? "grant_admin" : "revoke_admin", { type: "user", id }, { status: "warning" });
  }

  /** A session as somebody, for an hour; everything it does names both. Throws `not_found`, `forbidden`. */
  async impersonate(caller: Person, id: string, reason: string): Promise<rest.AuthResponse> {
    if (caller.impersonator) throw nested();
    const user = await this.#user(id);
    if (user.status !== "active" || user.isAdmin)
      throw new WrennError("forbidden", "Only an active account that is no administrator's can be acted as.", {
        remedy: "Choose another account.",
      });
    const { store, sessions } = this.ground;
    const client = { ip: "", userAgent: "impersonation" };
    const as = { impersonatorId: caller.user.id, expiresAt: new Date(Date.now() + impersonationMs) };
    const answer = await store.transaction((inside) => sessions.begin(inside, user, client, { as }));
    const deed = { status: "warning", metadata: { reason, email: user.email } } as const;
    this.#note(caller, "impersonate", { type: "user", id }, deed);
    this.ground.audit.by(caller.actor, answer.team_id, {
      ...{ resource: { type: "user", id }, action: "impersonate", scope: "admin", status: "warning" },
      metadata: { reason },
    });
    return answer;
  }

  async #user(id: string) {
    const user = await this.ground.store.users.find(id);
    if (user) return user;
    throw noUser(id);
  }

  #note(caller: Person, action: string, resource: Deed["resource"], more: Omit<Deed, "action" | "resource">): void {
    this.ground.audit.note({ ...caller, team: localTeam.id }, { ...more, action, resource, scope: "admin" });
  }
}

const pageOf = (page: number, total: number) => ({
  total,
  page,
  per_page: perPage,
  total_pages: Math.ceil(total / perPage),
});

const noUser = (id: string) =>
  new WrennError("not_found", "There is no such account.", {
    remedy: "`GET /v1/admin/users` lists them.",
    details: { id },
  });

const nested = () =>
  new WrennError("forbidden", "Who acts as somebody cannot act as a third.", { remedy: "End this session first." });
