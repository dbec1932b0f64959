import { rest } from "@wrenn/contract";
import type { Context } from "hono";
import { z } from "zod";
import { needPerson } from "../../services/access.ts";
import type { Services } from "../../services/index.ts";
import type { SessionRow } from "../../store/schema/index.ts";
import { type App, type Env, endpoint } from "../endpoint.ts";
import { clientOf, type Doorway, dropSession, setSession, shownToken } from "./client.ts";

/** `/v1/auth/*` and the forgotten password, for people who are not signed in (Wrenn REST API 3, 4). */
export function openAuthRoutes(app: App, { accounts }: Services, doorway: Doorway): void {
  const signedIn = (c: Context<Env>, answer: rest.AuthResponse) => {
    setSession(c, answer.token);
    return answer;
  };
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/auth/options", access: "open", status: 200, answer: rest.AuthOptions },
      summary: "What a sign-in page has to offer.",
    },
    async () => accounts.options(),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/auth/signup", access: "open", status: 201 },
      ...{ body: rest.SignUp, answer: rest.SignedUp },
      summary: "Make an account; a mailed link activates it.",
      codes: ["email_taken", "signup_cooldown", "forbidden", "invalid_token", "rate_limited"],
    },
    async ({ body, c }) => accounts.signUp(body, clientOf(c, doorway)),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/auth/activate", access: "open", status: 200 },
      ...{ body: rest.TokenBody, answer: rest.AuthResponse },
      summary: "Activate an account by the token of its mailed link, and sign in.",
      codes: ["invalid_token", "already_activated", "rate_limited"],
    },
    async ({ body, c }) => signedIn(c, await accounts.activate(body.token, clientOf(c, doorway))),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/auth/login", access: "open", status: 200 },
      ...{ body: rest.Login, answer: rest.AuthResponse },
      summary: "Sign in. Browsers get the session as a cookie, others send the token as Authorization: Bearer.",
      codes: ["unauthorized", "mfa_required", "account_not_activated", "account_disabled", "rate_limited"],
    },
    async ({ body, c }) => signedIn(c, await accounts.login(body, clientOf(c, doorway))),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/me/password/reset", access: "open", status: 204, body: rest.ResetPassword },
      summary: "Mail a link to a new password; the answer is the same whether or not there is such an account.",
      codes: ["rate_limited"],
    },
    async ({ body, c }) => accounts.forgot(body.email, clientOf(c, doorway)),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/me/password/reset/confirm", access: "open", status: 204 },
      body: rest.ConfirmReset,
      summary: "Set a new password by the token of a mailed link; every session ends.",
      codes: ["invalid_token", "rate_limited"],
    },
    async ({ body, c }) => accounts.reset(body.token, body.new_password, clientOf(c, doorway)),
  );
}

/** Sessions of people who are signed in. */
export function sessionRoutes(app: App, { accounts, sessions }: Services, doorway: Doorway): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/auth/switch-team", access: "person", status: 200 },
      ...{ body: rest.SwitchTeam, answer: rest.AuthResponse },
      summary: "A session in another of one's teams.",
      codes: ["not_found"],
    },
    async ({ caller, body, c }) => {
      const person = needPerson(caller);
      const answer = await accounts.switchTeam(person, body.team_id, clientOf(c, doorway));
      if (shownToken(c)?.from === "cookie") await sessions.end(person, person.session); // the cookie is replaced
      setSession(c, answer.token);
      return answer;
    },
  );
  endpoint(
    app,
    { method: "post", path: "/v1/auth/logout", access: "person", status: 204, summary: "End this session." },
    async ({ caller, c }) => {
      const person = needPerson(caller);
      await sessions.end(person, person.session);
      dropSession(c);
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/me/sessions", access: "person", status: 200, answer: z.array(rest.Session) },
      summary: "Where one is signed in, last used first.",
    },
    async ({ caller }) => {
      const person = needPerson(caller);
      return (await sessions.list(person)).map((row) => show(row, person.session));
    },
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/me/sessions/{session}", access: "person", status: 204 },
      summary: "End one of one's sessions.",
      codes: ["not_found"],
    },
    async ({ caller, c }) => sessions.end(needPerson(caller), c.req.param("session")!),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/me/sessions", access: "person", status: 204 },
      summary: "End every session but this one.",
    },
    async ({ caller }) => sessions.endOthers(needPerson(caller)),
  );
}

const show = (row: SessionRow, current: string): rest.Session => ({
  id: row.id,
  team_id: row.teamId,
  ip: row.ip,
  user_agent: row.userAgent,
  created_at: row.createdAt.toISOString(),
  last_used_at: row.lastUsedAt.toISOString(),
  expires_at: row.expiresAt.toISOString(),
  current: row.id === current,
});
