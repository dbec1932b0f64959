import { Wrenn, WrennError } from "wrenn";
import { lanes } from "./lanes.ts";
import type { AuthOptions, Me, Team } from "./types.ts";

/** Asked for beside the session's cookie where something is changed: no other site can send it. */
const csrf = { "X-Wrenn-CSRF": "1" };

/**
 * Who looks at the dashboard, and the client that speaks for them: a person, or a team's key. Either is a cookie that no
 * script can read.
 */
class Session {
  /** `unknown` until the first answer of the server. */
  state = $state<"unknown" | "out" | "in">("unknown");
  /** The person; undefined for a key. */
  me = $state.raw<Me | undefined>(undefined);
  teams = $state.raw<readonly Team[]>([]);
  client: Wrenn = new Wrenn({
    baseUrl: location.origin,
    authorize: () => csrf,
    fetch: (url, init) => this.#fetch(url, init),
  });

  /** Speaks for the installation's own team, as an administrator may. */
  readonly installation: Wrenn = new Wrenn({
    baseUrl: location.origin,
    authorize: () => csrf,
    fetch: (url, init) => this.#fetch(url.replace(/\/v1\/(capsules|builds)/, "/v1/admin/$1"), init),
  });

  /** The team that the person looks at now. */
  get team(): Team | undefined {
    return this.teams.find(({ id }) => id === this.me?.team_id);
  }

  /** Whether the person decides about members, keys and channels. */
  get manages(): boolean {
    return this.me?.role === "owner" || this.me?.role === "admin";
  }

  /** Finds out who this browser is. Throws when the server cannot be reached. */
  async restore(): Promise<void> {
    try {
      await this.#readPerson().catch(async (thrown) => {
        if (!isRefusal(thrown)) throw thrown;
        await this.client.list({ limit: 1 }); // a key is nobody, and opens its team all the same
      });
      this.state = "in";
    } catch (thrown) {
      if (!isRefusal(thrown)) throw thrown;
      this.#forget();
    }
  }

  /** Signs in with an API key; throws `unauthorized` for one the server does not know. */
  async useKey(key: string): Promise<void> {
    await this.#openTeam("/v1/auth/key", { key });
  }

  /** Signs in by a link that opens once; throws `invalid_token`. */
  async useLink(token: string): Promise<void> {
    await this.#openTeam("/v1/auth/link", { token });
  }

  /** Signs in by password; throws `mfa_required` when a code is asked for. */
  async login(email: string, password: string, code?: string): Promise<void> {
    await this.#open("/v1/auth/login", { email, password, ...(code && { code }) });
  }

  /** Activates an account by its mailed link. */
  async activate(token: string): Promise<void> {
    await this.#open("/v1/auth/activate", { token });
  }

  /** Takes the session that a provider's callback left in the cookie. */
  async arrive(): Promise<void> {
    await this.#readPerson();
    this.state = "in";
  }

  /** Looks at another team. The page begins anew, since everything on it belongs to a team. */
  async switchTeam(teamId: string): Promise<void> {
    await this.client.request("POST", "/v1/auth/switch-team", { body: { team_id: teamId } });
    location.assign("/");
  }

  /** Reads the person and the teams again, after a change. */
  async refresh(): Promise<void> {
    if (this.me) await this.#readPerson();
  }

  /** Ends the session; every page of this browser goes to the sign-in. */
  async leave(): Promise<void> {
    const [method, path] = this.me ? ["POST", "/v1/auth/logout"] : ["DELETE", "/v1/auth/key"];
    await this.client.request(method!, path!).catch(() => {});
    this.#forget();
  }

  /** What the sign-in page has to offer. */
  options(): Promise<AuthOptions> {
    return this.client.request<AuthOptions>("GET", "/v1/auth/options");
  }

  async #open(path: string, body: object): Promise<void> {
    await this.client.request("POST", path, { body });
    await this.#readPerson();
    this.state = "in";
  }

  async #openTeam(path: string, body: object): Promise<void> {
    await this.client.request("POST", path, { body });
    lanes.reset();
    this.me = undefined;
    this.teams = [];
    this.state = "in";
  }

  async #readPerson(): Promise<void> {
    const [me, teams] = await Promise.all([
      this.client.request<Me>("GET", "/v1/me"),
      this.client.request<Team[]>("GET", "/v1/teams"),
    ]);
    if (me.id !== this.me?.id) lanes.reset();
    this.me = me;
    this.teams = teams;
  }

  /** A session that ended elsewhere ends here too, wherever the answer was for. */
  async #fetch(url: string, init?: RequestInit): Promise<Response> {
    const response = await send(url, init);
    if (response.status === 401 && this.state === "in") {
      const body = await response
        .clone()
        .json()
        .catch(() => undefined);
      if (WrennError.fromBody(body)?.code === "unauthorized") this.#forget();
    }
    return response;
  }

  #forget(): void {
    lanes.reset();
    this.me = undefined;
    this.teams = [];
    this.state = "out";
  }
}

/** `fetch`, with what is followed in the window's one connection for that; by itself where no WebSocket gets through. */
async function send(url: string, init: RequestInit = {}): Promise<Response> {
  const isFollowed = new Headers(init.headers).get("Accept") === "text/event-stream";
  if (!isFollowed) return fetch(url, init);
  return lanes.follow(url.slice(location.origin.length), init.signal).catch((thrown) => {
    if (init.signal?.aborted) throw thrown;
    return fetch(url, init);
  });
}

const isRefusal = (thrown: unknown): boolean => thrown instanceof WrennError && thrown.status < 500;

export const session = new Session();
