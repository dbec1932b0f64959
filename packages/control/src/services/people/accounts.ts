import { type rest, WrennError } from "@wrenn/contract";
import { localTeam } from "../../store/keys.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import type { Purpose } from "../../store/people/tokens.ts";
import type { UserRow } from "../../store/schema/index.ts";
import type { Actor } from "../caller.ts";
import type { AccountGround } from "./account-ground.ts";
import type { Deed } from "./audit.ts";
import { type Letter, letters } from "./letters.ts";
import { hashPassword, verifyPassword } from "./passwords.ts";
import type { SecondFactor } from "./second-factor.ts";
import { hashToken, newToken } from "./secrets.ts";
import { type Client, defaultTeam, type Person } from "./sessions.ts";
import type { Settings } from "./settings.ts";

const minute = 60;
/** How long a mailed link works (Wrenn REST API 1.3), and an account that was not activated keeps its address. */
const lifeSec = { activation: 30 * minute, password_reset: 15 * minute } as const satisfies Record<Purpose, number>;

/** How people come in: sign-up, activation, sign-in, and a new password for one that was forgotten. */
export class Accounts {
  constructor(
    readonly ground: AccountGround,
    readonly secondFactor: Pick<SecondFactor, "check">,
    readonly settings: Pick<Settings, "signUp">,
  ) {}

  /** What a sign-in page has to offer. */
  async options(): Promise<rest.AuthOptions> {
    const { config, mailer, store } = this.ground;
    const isFirst = !(await store.users.hasAny());
    return {
      signup: isFirst ? "open" : await this.settings.signUp(),
      providers: config.providers.map(({ id, name }) => ({ id, name })),
      mail: mailer.sends,
      first_account: isFirst,
    };
  }

  /** Makes an account that waits for its activation. Throws `email_taken`, `signup_cooldown`, `forbidden`, `rate_limited`. */
  async signUp(body: rest.SignUp, client: Client): Promise<rest.SignedUp> {
    const { store, throttle, mailer, site } = this.ground;
    await throttle.attempt("signup_address", client.ip);
    await this.mayJoin(body.invitation);
    const passwordHash = await hashPassword(body.password);
    const { email, name } = body;
    const link = await store.transaction(async (inside) => {
      const user = await makeRoom(inside, { email, name, passwordHash });
      if (body.invitation !== undefined && (await acceptAs(inside, user, body.invitation))) {
        await activate(inside, user);
        return undefined;
      }
      return await this.#mailLink(inside, user, "activation");
    });
    mailer.ring();
    if (link === undefined) return { message: `The account is active; sign in.` };
    if (mailer.sends) return { message: `A link to activate the account was sent to ${email}.` };
    return {
      message: `This installation sends no mail: activate the account at ${site.dashboard(link)}.`,
      activation_url: site.dashboard(link),
    };
  }

  /** Throws `forbidden` where the policy lets only invited people, or nobody, make an account. */
  async mayJoin(invitation?: string): Promise<void> {
    const policy = await this.settings.signUp();
    if (policy === "open" || (policy === "invite" && invitation !== undefined)) return;
    if (!(await this.ground.store.users.hasAny())) return;
    throw new WrennError("forbidden", "Sign-up is not open on this installation.", {
      remedy: policy === "invite" ? "Ask a team for an invitation." : "Ask an administrator.",
    });
  }

  /** Makes the account of a mailed token active and signs it in. Throws `invalid_token`, `already_activated`. */
  async activate(token: string, client: Client): Promise<rest.AuthResponse> {
    const { store, throttle } = this.ground;
    await throttle.attempt("token_address", client.ip);
    return await store.transaction(async (inside) => {
      const user = await this.#owner(inside, token, "activation");
      if (user.status !== "inactive")
        throw new WrennError("already_activated", "The account is active already.", { remedy: "Sign in." });
      await activate(inside, user);
      return await this.begin(inside, user, client, "activation");
    });
  }

  /** Signs in. Throws `unauthorized`, `mfa_required`, `account_not_activated`, `account_disabled`, `rate_limited`. */
  async login(body: rest.Login, client: Client): Promise<rest.AuthResponse> {
    const { store, throttle } = this.ground;
    await throttle.attempt("login_address", client.ip);
    await throttle.attempt("login_account", body.email);
    const user = await store.users.byEmail(body.email);
    try {
      if (!(await verifyPassword(body.password, user?.passwordHash)) || !user) throw wrongCredentials();
      needActive(user);
      await this.secondFactor.check(user, body.code);
    } catch (thrown) {
      this.#refused(user, body.email, client, WrennError.from(thrown).code);
      throw thrown;
    }
    await throttle.succeeded("login_account", body.email);
    return await store.transaction((inside) => this.begin(inside, user, client, "password"));
  }

  /** Signs an account in and notes how, in the transaction of `store`. */
  async begin(store: PeopleStore, user: UserRow, client: Client, how: string): Promise<rest.AuthResponse> {
    const answer = await this.ground.sessions.begin(store, user, client);
    this.ground.audit.by(actorOf(user), answer.team_id, signIn(user.id, client, { how }));
    return answer;
  }

  /** Attempts belong to no team: administrators of the installation see them. */
  #refused(user: UserRow | undefined, email: string, client: Client, code: string): void {
    const actor = { type: "user", id: user?.id ?? "", name: email } as const;
    this.ground.audit.by(actor, localTeam.id, { ...signIn(user?.id ?? "", client, { code }), status: "error" });
  }

  /** A session of the caller in another team. Throws `not_found`, `forbidden`. */
  async switchTeam(caller: Person, teamId: string, client: Client): Promise<rest.AuthResponse> {
    const { store, sessions } = this.ground;
    return await store.transaction(async (inside) => {
      if (!(await inside.teams.role(caller.user.id, teamId))) throw notMember(teamId);
      if (!(await inside.teams.find(teamId))) throw notMember(teamId);
      return await sessions.begin(inside, (await inside.users.find(caller.user.id))!, client, { team: teamId });
    });
  }

  /** Mails a link to a new password, if there is such an account; nobody learns whether. Throws `rate_limited`. */
  async forgot(email: string, client: Client): Promise<void> {
    const { store, throttle, mailer } = this.ground;
    await throttle.attempt("mail_address", client.ip);
    await throttle.attempt("mail_recipient", email);
    await store.transaction(async (inside) => {
      const user = await inside.users.byEmail(email);
      if (user?.status === "active") await this.#mailLink(inside, user, "password_reset");
    });
    mailer.ring();
  }

  /** Sets the password of a mailed token and ends every session. Throws `invalid_token`, `rate_limited`. */
  async reset(token: string, password: string, client: Client): Promise<void> {
    const { store, throttle, sessions, mailer } = this.ground;
    await throttle.attempt("token_address", client.ip);
    const passwordHash = await hashPassword(password);
    const user = await store.transaction(async (inside) => {
      const found = await this.#owner(inside, token, "password_reset");
      await inside.users.update(found.id, { passwordHash });
      await inside.sessions.endAll(found.id);
      await mailer.post(inside.mails, letters.passwordChanged(found));
      return found;
    });
    await throttle.succeeded("login_account", user.email);
    this.ground.audit.by(actorOf(user), localTeam.id, {
      ...{ resource: { type: "user", id: user.id }, action: "password_reset", scope: "admin", status: "warning" },
      metadata: { ip: client.ip },
    });
    sessions.forget();
    mailer.ring();
  }

  async #owner(store: PeopleStore, token: string, purpose: Purpose): Promise<UserRow> {
    const id = await store.tokens.take(hashToken(token), purpose);
    const user = id === undefined ? undefined : await store.users.find(id);
    if (user) return user;
    throw new WrennError("invalid_token", "The link is unknown, was used, or is too old.", {
      remedy: "Ask for a new one.",
    });
  }

  /** Path and token of a new link that was mailed. */
  async #mailLink(store: PeopleStore, user: UserRow, purpose: Purpose): Promise<string> {
    const token = newToken();
    await store.tokens.insert({ tokenHash: hashToken(token), purpose, userId: user.id }, lifeSec[purpose]);
    const [page, letter] = mailed[purpose];
    const link = `/${page}?token=${token}`;
    await this.ground.mailer.post(store.mails, letter(user, this.ground.site.dashboard(link)));
    return link;
  }
}

const mailed: Record<Purpose, [page: string, letter: (user: UserRow, url: string) => Letter]> = {
  activation: ["activate", letters.activation],
  password_reset: ["reset-password", letters.reset],
};

/** Makes an inactive account, in the place of one that was never activated. Throws `email_taken`, `signup_cooldown`. */
export async function makeRoom(
  store: PeopleStore,
  { email, name, passwordHash }: { email: string; name: string; passwordHash?: string },
): Promise<UserRow> {
  const found = await store.users.byEmail(email);
  if (found && found.status !== "inactive") throw taken();
  if (found && passwordHash !== undefined && Date.now() - found.createdAt.getTime() < lifeSec.activation * 1_000)
    throw new WrennError("signup_cooldown", "Somebody has just signed up with this address.", {
      remedy: "Open the link in the mail, or try again after 30 minutes.",
    });
  if (found) await store.users.erase(found.id);
  const made = await store.users.insert({ email, name, passwordHash, status: "inactive" });
  if (!made) throw taken(); // another request was faster
  return made;
}

const taken = () =>
  new WrennError("email_taken", "The address has an account.", { remedy: "Sign in, or reset the password." });

/**
 * Makes an account active. The first one owns the local team, where the sandboxes of the installation's own key are,
 * and administers the installation; every other gets a team of its own unless it was invited to one.
 */
export async function activate(store: PeopleStore, user: UserRow): Promise<void> {
  await store.users.lockAll();
  const isFirst = !(await store.users.hasAny());
  await store.users.update(user.id, { status: "active", ...(isFirst && { isAdmin: true }) });
  if (isFirst) await store.teams.join({ userId: user.id, teamId: localTeam.id, role: "owner", isDefault: true });
  await defaultTeam(store, user);
}

/** Joins the team of an invitation to this very address. */
export async function acceptAs(store: PeopleStore, user: UserRow, token: string): Promise<string | undefined> {
  const invitation = await store.teams.takeInvitation(hashToken(token));
  if (!invitation || invitation.email !== user.email || !(await store.teams.find(invitation.teamId)))
    throw new WrennError(
      "invalid_token",
      "The invitation is unknown, was used, is too old, or is for another address.",
      {
        remedy: "Ask the team for a new one.",
      },
    );
  await store.teams.join({ userId: user.id, teamId: invitation.teamId, role: invitation.role });
  return invitation.teamId;
}

/** Throws `account_not_activated` or `account_disabled` for an account that opens to nobody. */
export function needActive(user: UserRow): void {
  if (user.status === "inactive")
    throw new WrennError("account_not_activated", "The account was not activated yet.", {
      remedy: "Open the link in the mail, or sign up again after 30 minutes.",
    });
  if (user.status !== "active")
    throw new WrennError("account_disabled", "The account is disabled.", { remedy: "Ask an administrator." });
}

/** An account as the one who did something. */
const actorOf = (user: Pick<UserRow, "id" | "name">): Actor => ({ type: "user", id: user.id, name: user.name });

const signIn = (id: string, { ip, userAgent }: Client, more: Record<string, string>): Deed => ({
  ...{ resource: { type: "user", id }, action: "sign_in", scope: "admin" },
  metadata: { ip, user_agent: userAgent, ...more },
});

const wrongCredentials = () =>
  new WrennError("unauthorized", "E-mail or password is wrong.", { remedy: "Check both, or reset the password." });

/** The refusal of a team that is not there, or not the caller's: the two look the same. */
export const notMember = (id: string) =>
  new WrennError("not_found", "There is no such team.", { remedy: "`GET /v1/teams` lists yours.", details: { id } });
