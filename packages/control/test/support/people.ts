import { setDefaultTimeout } from "bun:test";
import { headers, type rest, WrennError } from "@wrenn/contract";
import type { Plane } from "./plane.ts";

/** Passwords are slow to hash on purpose, and a machine may be busy with other tests. */
setDefaultTimeout(60_000);

/** A password that every person of the tests has. */
export const password = "correct horse battery";

/** What came back: status, parsed body, and the code of an error. */
export type Answer<T> = { status: number; body: T; code: string | undefined; headers: Headers };

/** Somebody with an account, over HTTP. */
export class Human {
  constructor(
    readonly plane: Plane,
    readonly auth: rest.AuthResponse,
  ) {}

  /** Signs up, reads the link in the outbox, activates. */
  static async join(plane: Plane, name: string, email = `${name.toLowerCase()}@example.com`): Promise<Human> {
    await call(plane, "POST", "/v1/auth/signup", { email, name, password });
    const token = await mailedToken(plane, email);
    const { body, status } = await call<rest.AuthResponse>(plane, "POST", "/v1/auth/activate", { token });
    if (status !== 200) throw new Error(`activation of ${email}: ${status}`);
    return new Human(plane, body);
  }

  /** The same person in another session. */
  async again(more: { code?: string } = {}): Promise<Human> {
    const { body, status } = await login(this.plane, this.auth.email, password, more);
    if (status !== 200) throw new Error(`login of ${this.auth.email}: ${status}`);
    return new Human(this.plane, body);
  }

  /** The same person in another team. */
  async in(team: string): Promise<Human> {
    const { body } = await this.ask<rest.AuthResponse>("POST", "/v1/auth/switch-team", { team_id: team });
    return new Human(this.plane, body);
  }

  ask<T = unknown>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    return call(this.plane, method, path, body, { authorization: `Bearer ${this.auth.token}` });
  }

  /** Status and code. */
  async refusal(method: string, path: string, body?: unknown): Promise<[number, string | undefined]> {
    const { status, code } = await this.ask(method, path, body);
    return [status, code];
  }
}

/** A request without any credential of its own. */
export async function call<T = unknown>(
  plane: Plane,
  method: string,
  path: string,
  body?: unknown,
  more: Record<string, string> = {},
): Promise<Answer<T>> {
  const answer = await fetch(plane.address + path, {
    method,
    headers: { ...(body !== undefined && { "content-type": "application/json" }), ...more },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  const parsed = text === "" ? undefined : JSON.parse(text);
  return { status: answer.status, body: parsed, code: WrennError.fromBody(parsed)?.code, headers: answer.headers };
}

/** Signs in. */
export const login = (plane: Plane, email: string, secret: string, more: object = {}) =>
  call<rest.AuthResponse>(plane, "POST", "/v1/auth/login", { email, password: secret, ...more });

/** The outbox's mails to an address, newest first. */
export async function mailsTo(plane: Plane, email: string): Promise<rest.OutboxMail[]> {
  const { body } = await call<rest.OutboxMail[]>(plane, "GET", "/v1/dev/outbox");
  return body.filter(({ to }) => to === email);
}

/** The token of the link in the newest mail that has one. */
export async function mailedToken(plane: Plane, email: string): Promise<string> {
  for (const { text } of await mailsTo(plane, email)) {
    const token = /[?&]token=(\w+)/.exec(text)?.[1];
    if (token) return token;
  }
  throw new Error(`no link was mailed to ${email}`);
}

/** A request by API key. */
export const byKey = <T = unknown>(plane: Plane, key: string, method: string, path: string, body?: unknown) =>
  call<T>(plane, method, path, body, { [headers.apiKey]: key });
