import { type rest, WrennError } from "@wrenn/contract";
import * as oidc from "openid-client";
import type { ProviderOptions } from "../../config-access.ts";
import type { Identity } from "../../store/people/users.ts";
import type { AccountGround } from "./account-ground.ts";
import type { Accounts } from "./accounts.ts";
import { activate, makeRoom, needActive } from "./accounts.ts";
import { githubConfiguration, githubProfile } from "./github.ts";
import type { ProviderProfile } from "./provider-profile.ts";
import type { Box } from "./secrets.ts";
import type { Client, Person } from "./sessions.ts";

/** How long somebody may take at the provider (Wrenn REST API 3). */
export const flowSec = 600;
const purpose = "oauth";
const scope = "openid email profile";

/** Why somebody goes to a provider. */
export type Intent = { intent: "login" | "signup" } | { intent: "link"; user: string };
/** What must come back unchanged, kept in the browser, encrypted. */
type Flow = Intent & { provider: string; state: string; verifier: string; nonce: string; until: number };
/** Somebody on the way to a provider: where to, and what the browser keeps meanwhile. */
export type Departure = { url: string; flow: string };
/** Somebody who came back. */
export type Arrival = { isNew: boolean; auth: rest.AuthResponse } | { linked: string };

/** Signing in with another account: any issuer of OpenID Connect, and GitHub. */
export class Providers {
  readonly #configurations = new Map<string, Promise<oidc.Configuration>>();

  constructor(
    readonly ground: AccountGround,
    readonly accounts: Accounts,
    readonly box: Box,
  ) {}

  /** Where to send somebody. Throws `not_found` for an unknown provider, `unavailable` when it does not answer. */
  async depart(provider: string, intent: Intent): Promise<Departure> {
    const options = this.#options(provider);
    const configuration = await this.#configuration(options);
    const flow: Flow = {
      ...intent,
      provider,
      state: oidc.randomState(),
      nonce: oidc.randomNonce(),
      verifier: oidc.randomPKCECodeVerifier(),
      until: Date.now() + flowSec * 1_000,
    };
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: this.#redirect(provider),
      scope: options.issuer === undefined ? "user:email" : scope,
      state: flow.state,
      ...(options.issuer !== undefined && { nonce: flow.nonce }),
      code_challenge: await oidc.calculatePKCECodeChallenge(flow.verifier),
      code_challenge_method: "S256",
    });
    return { url: url.href, flow: this.box.seal(JSON.stringify(flow), purpose) };
  }

  /** Takes somebody who came back. Throws a {@link WrennError} whose `details.reason` the dashboard shows. */
  async arrive(provider: string, query: URLSearchParams, kept: string | undefined, client: Client): Promise<Arrival> {
    const flow = this.#read(kept);
    if (!flow || flow.provider !== provider || flow.until < Date.now() || query.get("state") !== flow.state)
      throw failed("invalid_state", "forbidden");
    if (query.get("error")) throw failed("access_denied", "forbidden");
    if (!query.get("code")) throw failed("missing_code", "invalid_request");
    const profile = await this.#exchange(this.#options(provider), query, flow);
    const identity = { provider, subject: profile.subject, email: profile.email ?? "" };
    if (flow.intent === "link") return await this.#link(flow.user, identity);
    const { store } = this.ground;
    return await store.transaction(async (inside) => {
      const known = await inside.users.byIdentity(identity);
      const user = known ?? (await this.#create(flow.intent === "signup", identity, profile.name, inside));
      if (known && known.status !== "active") throw failed("account_deactivated", "account_disabled");
      return { isNew: known === undefined, auth: await this.accounts.begin(inside, user, client, provider) };
    });
  }

  async #create(mayCreate: boolean, identity: Identity, name: string | undefined, store: AccountGround["store"]) {
    if (!mayCreate) throw failed("no_account", "not_found");
    if (!identity.email) throw failed("no_email", "invalid_request");
    await this.accounts.mayJoin().catch(() => {
      throw failed("signup_closed", "forbidden");
    });
    const email = identity.email.toLowerCase();
    const made = await makeRoom(store, { email, name: name?.trim().slice(0, 100) || email.split("@")[0]! }).catch(
      (cause) => {
        throw failed("email_taken", "email_taken", cause);
      },
    );
    await activate(store, made);
    await store.users.link(made.id, identity);
    const user = (await store.users.find(made.id))!;
    needActive(user);
    return user;
  }

  async #link(userId: string, identity: Identity): Promise<Arrival> {
    if (!(await this.ground.store.users.link(userId, identity))) throw failed("already_linked", "conflict");
    const user = await this.ground.store.users.find(userId);
    if (user)
      this.ground.audit.by(
        { type: "user", id: user.id, name: user.name },
        (await this.ground.store.teams.of(user.id))[0]!.id,
        {
          ...{ resource: { type: "user", id: user.id }, action: "connect", scope: "admin" },
          metadata: { provider: identity.provider },
        },
      );
    return { linked: identity.provider };
  }

  async #exchange(options: ProviderOptions, query: URLSearchParams, flow: Flow): Promise<ProviderProfile> {
    const configuration = await this.#configuration(options);
    const arrived = new URL(`${this.#redirect(options.id)}?${query}`);
    try {
      const tokens = await oidc.authorizationCodeGrant(configuration, arrived, {
        pkceCodeVerifier: flow.verifier,
        expectedState: flow.state,
        ...(options.issuer !== undefined && { expectedNonce: flow.nonce, idTokenExpected: true }),
      });
      if (options.issuer === undefined) return await githubProfile(options, tokens.access_token);
      const claims = tokens.claims()!;
      const said = { ...(await oidc.fetchUserInfo(configuration, tokens.access_token, claims.sub)), ...claims };
      const isVerified = said.email_verified !== false;
      const email = isVerified && typeof said.email === "string" ? said.email : undefined;
      return { subject: claims.sub, email, name: typeof said.name === "string" ? said.name : undefined };
    } catch (cause) {
      throw failed("exchange_failed", "agent_error", cause);
    }
  }

  #read(kept: string | undefined): Flow | undefined {
    const text = kept === undefined ? undefined : this.box.open(decodeURIComponent(kept), purpose);
    return text === undefined ? undefined : (JSON.parse(text) as Flow);
  }

  #options(provider: string): ProviderOptions {
    const found = this.ground.config.providers.find(({ id }) => id === provider);
    if (found) return found;
    throw new WrennError("provider_not_found", "There is no such provider.", {
      remedy: "`GET /v1/auth/options` names those there are.",
    });
  }

  #redirect(provider: string): string {
    return this.ground.site.server(`/auth/oauth/${provider}/callback`);
  }

  /** Discovered once; a provider that does not answer is asked again the next time. */
  #configuration(options: ProviderOptions): Promise<oidc.Configuration> {
    const known = this.#configurations.get(options.id);
    if (known) return known;
    const made = discover(options).catch((cause) => {
      this.#configurations.delete(options.id);
      throw new WrennError("unavailable", `${options.name} does not answer.`, {
        remedy: "Try again; an administrator may check the provider's address.",
        cause,
      });
    });
    this.#configurations.set(options.id, made);
    return made;
  }
}

/** Connected and signed-in people of `caller` go to a provider to connect it. */
export const linkOf = (caller: Person): Intent => ({ intent: "link", user: caller.user.id });

async function discover(options: ProviderOptions): Promise<oidc.Configuration> {
  if (options.issuer === undefined) return githubConfiguration(options);
  const issuer = new URL(options.issuer);
  // An issuer on this machine has no certificate; one elsewhere must.
  const isLocal = issuer.protocol === "http:" && /^(localhost|127\.0\.0\.1|\[::1\])$/.test(issuer.hostname);
  return await oidc.discovery(issuer, options.clientId, options.clientSecret || undefined, undefined, {
    timeout: 10,
    execute: isLocal ? [oidc.allowInsecureRequests] : [],
  });
}

type Reason =
  | "access_denied"
  | "invalid_state"
  | "missing_code"
  | "exchange_failed"
  | "account_deactivated"
  | "no_account"
  | "no_email"
  | "email_taken"
  | "signup_closed"
  | "already_linked";

const failed = (reason: Reason, code: ConstructorParameters<typeof WrennError>[0], cause?: unknown) =>
  new WrennError(code, `Signing in did not succeed: ${reason}.`, { details: { reason }, cause });
