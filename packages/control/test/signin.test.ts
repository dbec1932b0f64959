import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { rest } from "@wrenn/contract";
import { TOTP } from "otpauth";
import { Human, login, password } from "./support/people.ts";
import { Plane } from "./support/plane.ts";
import { Browser, startGithub, startIssuer } from "./support/providers.ts";

let plane: Plane;
let issuer: Awaited<ReturnType<typeof startIssuer>>;
let github: Awaited<ReturnType<typeof startGithub>>;
beforeAll(async () => {
  [issuer, github] = await Promise.all([startIssuer(), startGithub()]);
  plane = await Plane.start({}, { providers: [issuer.options, github.options] });
  issuer.allow(`${plane.address.replace("127.0.0.1", "localhost")}/auth/oauth/oidc/callback`);
});
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await Promise.all([issuer.stop(), github.stop()]);
});

const home = () => plane.address.replace("127.0.0.1", "localhost");

describe("the second factor", () => {
  let zoe: Human;
  let totp: TOTP;
  let codes: string[];
  beforeAll(async () => {
    zoe = await Human.join(plane, "Zoe");
    const { body } = await zoe.ask<{ secret: string; url: string }>("POST", "/v1/me/mfa");
    const url = new URL(body.url);
    expect([url.protocol, url.searchParams.get("issuer")]).toEqual(["otpauth:", "Wrenn"]);
    totp = new TOTP({ secret: body.secret });
  });

  test("counts once a code of it was shown, and ends every other session", async () => {
    const other = await zoe.again(); // not on yet
    expect(await zoe.refusal("POST", "/v1/me/mfa/confirm", { code: "000000" })).toEqual([401, "unauthorized"]);
    const code = totp.generate({ timestamp: Date.now() - 30_000 });
    const { body } = await zoe.ask<{ recovery_codes: string[] }>("POST", "/v1/me/mfa/confirm", { code });
    codes = body.recovery_codes;
    expect(new Set(codes).size).toBe(10);
    expect(await other.refusal("GET", "/v1/me")).toEqual([401, "unauthorized"]);
    expect((await zoe.ask<rest.Me>("GET", "/v1/me")).body.mfa).toBe(true);
  });

  test("is asked for after the right password only, and a code opens once", async () => {
    expect((await login(plane, "zoe@example.com", "wrong password")).code).toBe("unauthorized");
    expect((await login(plane, "zoe@example.com", password)).code).toBe("mfa_required");
    const code = totp.generate();
    expect((await login(plane, "zoe@example.com", password, { code })).status).toBe(200);
    expect((await login(plane, "zoe@example.com", password, { code })).code).toBe("unauthorized");
  });

  test("is stood in for by each recovery code once", async () => {
    const code = codes[0]!.toUpperCase();
    expect((await login(plane, "zoe@example.com", password, { code })).status).toBe(200);
    expect((await login(plane, "zoe@example.com", password, { code })).code).toBe("unauthorized");
  });

  test("cannot be guessed: after some wrong codes the right one waits too", async () => {
    for (let at = 0; at < 7; at++) await login(plane, "zoe@example.com", password, { code: "123456" });
    expect((await login(plane, "zoe@example.com", password, { code: codes[1]! })).code).toBe("rate_limited");
  });

  test("is turned off by a code, not without", async () => {
    const { SQL } = await import("bun");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`delete from attempts`;
    expect(await zoe.refusal("DELETE", "/v1/me/mfa", { code: "123456" })).toEqual([401, "unauthorized"]);
    expect((await zoe.ask("DELETE", "/v1/me/mfa", { code: codes[2] })).status).toBe(204);
    expect((await login(plane, "zoe@example.com", password)).status).toBe(200);
  });
});

describe("OpenID Connect, with a real issuer", () => {
  const start = (intent: string) => `${home()}/auth/oauth/oidc?intent=${intent}`;

  test("signs nobody in who has no account, signs up who asks for it, then signs in", async () => {
    issuer.person = { sub: "u-1", email: "Ora@example.com", name: "Ora", email_verified: true };
    expect(await new Browser().follow(start("login"))).toBe(`${home()}/auth/oidc/callback?error=no_account`);
    const browser = new Browser();
    expect(await browser.follow(start("signup"))).toBe(`${home()}/auth/oidc/callback?new_signup=1`);
    expect(browser.setBy(home(), "wrenn_session")).toContain("HttpOnly");
    const me = (await browser.json(`${home()}/v1/me`)) as rest.Me;
    expect(me).toMatchObject({ email: "ora@example.com", name: "Ora", has_password: false, providers: ["oidc"] });
    const again = new Browser();
    expect(await again.follow(start("login"))).toBe(`${home()}/auth/oidc/callback`);
    expect(((await again.json(`${home()}/v1/me`)) as rest.Me).id).toBe(me.id);
  });

  test("knows people by what the issuer calls them, not by an address that may change hands", async () => {
    issuer.person = { sub: "u-2", email: "ora@example.com", name: "Not Ora", email_verified: true };
    expect(await new Browser().follow(start("login"))).toEndWith("?error=no_account");
    expect(await new Browser().follow(start("signup"))).toEndWith("?error=email_taken");
  });

  test("believes no address that was not verified", async () => {
    issuer.person = { sub: "u-3", email: "new@example.com", name: "New", email_verified: false };
    expect(await new Browser().follow(start("signup"))).toEndWith("?error=no_email");
  });

  test("takes nobody back who did not leave from here, or with another state", async () => {
    const forged = `${home()}/auth/oauth/oidc/callback?code=x&state=y`;
    expect(await new Browser().follow(forged)).toEndWith("?error=invalid_state");
    const browser = new Browser();
    await browser.get(start("login"));
    expect(await browser.follow(forged)).toEndWith("?error=invalid_state");
  });

  test("is connected to an account, and disconnected unless nothing else opens it", async () => {
    issuer.person = { sub: "u-4", email: "else@example.com", name: "Else", email_verified: true };
    const pam = await Human.join(plane, "Pam");
    const browser = new Browser();
    browser.cookie(home(), `wrenn_session=${pam.auth.token}`);
    const { auth_url } = (await browser.json(`${home()}/v1/me/providers/oidc/connect`)) as { auth_url: string };
    expect(await browser.follow(auth_url)).toBe(`${home()}/dashboard/settings?connected=oidc`);
    expect((await pam.ask<rest.Me>("GET", "/v1/me")).body.providers).toEqual(["oidc"]);
    expect(await new Browser().follow(start("login"))).toBe(`${home()}/auth/oidc/callback`);
    expect((await pam.ask("DELETE", "/v1/me/providers/oidc")).status).toBe(204);
    expect(await pam.refusal("DELETE", "/v1/me/providers/oidc")).toEqual([404, "not_found"]);
    expect(await new Browser().follow(start("login"))).toEndWith("?error=no_account");
  });

  test("alone is not disconnected", async () => {
    issuer.person = { sub: "u-1", email: "ora@example.com", name: "Ora", email_verified: true };
    const browser = new Browser();
    await browser.follow(start("login"));
    const answer = await browser.get(`${home()}/v1/me/providers/oidc`, "DELETE");
    expect([answer.status, ((await answer.json()) as { error: { code: string } }).error.code]).toEqual([
      400,
      "last_login_method",
    ]);
  });
});

describe("GitHub's OAuth", () => {
  const start = (intent: string) => `${home()}/auth/oauth/github?intent=${intent}`;

  test("signs up by the primary verified address, and knows people by number", async () => {
    github.person = { id: 42, login: "octo", name: "Octo Cat", email: "octo@example.com", verified: true };
    const browser = new Browser();
    expect(await browser.follow(start("signup"))).toBe(`${home()}/auth/github/callback?new_signup=1`);
    expect(await browser.json(`${home()}/v1/me`)).toMatchObject({ email: "octo@example.com", providers: ["github"] });
    github.person = { id: 42, login: "renamed", name: "Octo", email: "other@example.com", verified: true };
    expect(await new Browser().follow(start("login"))).toBe(`${home()}/auth/github/callback`);
  });

  test("believes no address that was not verified", async () => {
    github.person = { id: 43, login: "x", name: "X", email: "x@example.com", verified: false };
    expect(await new Browser().follow(start("signup"))).toEndWith("?error=no_email");
  });

  test("of an account that is disabled signs nobody in", async () => {
    const { SQL } = await import("bun");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`update users set status = 'disabled' where email = 'octo@example.com'`;
    github.person = { id: 42, login: "octo", name: "Octo", email: "octo@example.com", verified: true };
    expect(await new Browser().follow(start("login"))).toEndWith("?error=account_deactivated");
  });
});

test("an unknown provider is refused, and the sign-in page learns which there are", async () => {
  const answer = await fetch(`${plane.address}/auth/oauth/nope`, { redirect: "manual" });
  expect([answer.status, ((await answer.json()) as { error: { code: string } }).error.code]).toEqual([
    404,
    "provider_not_found",
  ]);
  expect(await (await fetch(`${plane.address}/v1/auth/options`)).json()).toMatchObject({
    signup: "open",
    mail: false,
    providers: [
      { id: "oidc", name: "Example" },
      { id: "github", name: "GitHub" },
    ],
  });
});
