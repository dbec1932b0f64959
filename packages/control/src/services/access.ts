import { headers, type rest, WrennError } from "@wrenn/contract";
import type { Caller } from "./caller.ts";
import type { Keys } from "./keys.ts";
import { scopesOf } from "./people/scopes.ts";
import { sessionPrefix } from "./people/secrets.ts";
import type { Person, Sessions } from "./people/sessions.ts";

/** Name of the session's cookie: HttpOnly, SameSite, of this very host. */
export const sessionCookie = "wrenn_session";

/** What the door looks at. */
export type Knock = { method: string; headers: Headers; url: string };

/** The one door: every edge learns here who asks. */
export class Access {
  readonly #watched = new Set<{ open: () => Promise<Caller>; end: () => void }>();

  constructor(
    readonly keys: Keys,
    readonly sessions: Sessions,
    /** Origins beside our own whose pages may use the cookie. */
    readonly origins: readonly string[] = [],
  ) {}

  /** Who sent this request: by API key, else by bearer, else by cookie. Throws `unauthorized`, `csrf_required`, `forbidden`. */
  async open(request: Knock, requestId: string): Promise<Caller> {
    const shown = credentialOf(request.headers);
    if (shown?.from === "cookie" && !this.#isOwnPage(request)) throw csrf();
    return this.#scoped(request, await this.byToken(shown?.token, requestId));
  }

  /** As {@link open}, and `undefined` when the request shows nothing: its first message will. */
  async known(request: Knock, requestId: string): Promise<Caller | undefined> {
    const shown = credentialOf(request.headers);
    if (shown?.from === "cookie" && !this.#isOwnOrigin(request.headers)) return undefined;
    return shown && this.#scoped(request, await this.byToken(shown.token, requestId));
  }

  /**
   * Whether a page of ours sent what comes with the cookie. Pages of sandboxes are the same site where the domain is
   * shared, so SameSite does not keep them out; a header that forces a preflight does, and so does the Origin.
   */
  #isOwnPage({ method, headers: given }: Knock): boolean {
    if (safeMethods.includes(method)) return true;
    return given.get(headers.csrf) !== null && this.#isOwnOrigin(given, true);
  }

  /** Whether Origin names this host, or one that was configured; a WebSocket of a browser always sends it. */
  #isOwnOrigin(given: Headers, orAbsent = false): boolean {
    const origin = given.get("origin");
    if (origin === null) return orAbsent;
    if (!URL.canParse(origin)) return false;
    const host = given.get("x-forwarded-host") ?? given.get("host");
    return this.origins.includes(origin) || new URL(origin).host === host?.toLowerCase();
  }

  #scoped({ method, url }: Knock, caller: Caller): Caller {
    if (caller.scopes) needScopes(caller, scopesOf(method, new URL(url).pathname));
    return caller;
  }

  /** Whose API key or session token this is. Throws `unauthorized`. */
  byToken(token: string | undefined, requestId: string): Promise<Caller> {
    return token?.startsWith(sessionPrefix) ? this.sessions.caller(token, requestId) : this.byKey(token, requestId);
  }

  /** Whose API key this is. Throws `unauthorized`. */
  async byKey(key: string | null | undefined, requestId: string): Promise<Caller> {
    const { id, team, name, scopes } = await this.keys.open(key);
    const actor = { type: "api_key", id, name } as const;
    return { team, actor, requestId, ...(scopes !== null && { scopes: scopes.split(" ") as rest.Scope[] }) };
  }

  /** Calls `end` when `open` does not succeed any more, since access has ended. Answers how to stop watching. */
  watch(open: () => Promise<Caller>, end: () => void): () => void {
    const watch = { open, end };
    this.#watched.add(watch);
    return () => this.#watched.delete(watch);
  }

  /** Reads everything anew: somebody's access has ended, here or on another replica. */
  forget(): void {
    this.keys.forget();
    this.sessions.forget();
    for (const watch of this.#watched)
      watch.open().catch((thrown) => {
        // A database that is away says nothing about access.
        if (thrown instanceof WrennError && (thrown.status === 401 || thrown.status === 403)) watch.end();
      });
  }
}

/** The session's token that a request shows, and how. */
export function credentialOf(given: Headers): { token: string; from: "key" | "bearer" | "cookie" } | undefined {
  const key = given.get(headers.apiKey);
  if (key !== null) return { token: key, from: "key" };
  const bearer = /^Bearer +(\S+)$/i.exec(given.get("authorization") ?? "")?.[1];
  if (bearer !== undefined) return { token: bearer, from: "bearer" };
  const cookie = cookieValue(given, sessionCookie);
  return cookie === undefined ? undefined : { token: cookie, from: "cookie" };
}

/** The value of a cookie. */
export function cookieValue(given: Headers, name: string): string | undefined {
  for (const pair of (given.get("cookie") ?? "").split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim();
  }
  return undefined;
}

/** Throws `unauthorized` unless a person is signed in: a key speaks for a team, and for nobody in it. */
export function needPerson(caller: Caller): Person {
  if (caller.user && caller.session && caller.role) return caller as Person;
  throw new WrennError("unauthorized", "This is for people who are signed in; an API key does not open it.", {
    remedy: "Sign in with POST /v1/auth/login and send its token as Authorization: Bearer.",
  });
}

/** Throws `forbidden` unless the caller administers the installation. */
export function needAdmin(caller: Caller): Person {
  const person = needPerson(caller);
  if (person.user.isAdmin) return person;
  throw new WrennError("forbidden", "This is for administrators of the installation.", { remedy: "Ask one of them." });
}

/** Throws `forbidden` when the caller's key was not made for this. */
export function needScopes(caller: Caller, needed: readonly rest.Scope[] | undefined): void {
  const lacking = needed?.filter((scope) => !caller.scopes?.includes(scope));
  if (!caller.scopes || lacking?.length === 0) return;
  throw new WrennError(
    "forbidden",
    `The API key was not made for this${lacking ? `: it lacks ${lacking.join(", ")}` : ""}.`,
    {
      remedy: "Use a key with more scopes, or one without any, which opens everything a key can.",
    },
  );
}

const safeMethods: readonly string[] = ["GET", "HEAD", "OPTIONS"];

/** The refusal of a change by cookie that another site's page could have sent. */
export const csrf = () =>
  new WrennError("csrf_required", `A change by cookie needs the header ${headers.csrf}.`, {
    remedy: `Send ${headers.csrf}: 1 from the dashboard's own pages; programs send Authorization: Bearer instead.`,
  });
