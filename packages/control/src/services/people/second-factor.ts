import { WrennError } from "@wrenn/contract";
import { Secret, TOTP } from "otpauth";
import type { UserRow } from "../../store/schema/index.ts";
import type { AccountGround } from "./account-ground.ts";
import { letters } from "./letters.ts";
import { type Box, hashToken } from "./secrets.ts";
import type { Person } from "./sessions.ts";

const issuer = "Wrenn";
const purpose = "totp";
/** Steps of 30 seconds that clocks may be apart (RFC 6238, section 5.2). */
const window = 1;
const stepMs = 30_000;
const recoveryCount = 10;

/** What an authenticator is set up with. */
export type Enrolment = { secret: string; url: string };

/** Codes of an authenticator (RFC 6238) beside the password, and codes on paper for when it is lost. */
export class SecondFactor {
  constructor(
    readonly ground: Omit<AccountGround, "config" | "site">,
    readonly box: Box,
  ) {}

  /** A new secret, which counts once a code of it was shown. Throws `conflict` when there is a second factor. */
  async enrol(caller: Person): Promise<Enrolment> {
    const user = await this.#row(caller);
    if (user.totpSecret !== null)
      throw new WrennError("conflict", "The account has a second factor.", { remedy: "Turn it off first." });
    const secret = new Secret({ size: 20 });
    await this.ground.store.users.update(user.id, { totpPending: this.box.seal(secret.base32, purpose + user.id) });
    return { secret: secret.base32, url: totp(user.email, secret.base32).toString() };
  }

  /** Turns it on and ends every other session; answers codes for a lost authenticator, this once. Throws `unauthorized`. */
  async confirm(caller: Person, code: string): Promise<string[]> {
    const { store, sessions, throttle, mailer, audit } = this.ground;
    await throttle.attempt("code_account", caller.user.id);
    const user = await this.#row(caller);
    const step = user.totpPending === null ? undefined : this.#step(user, user.totpPending, code);
    if (step === undefined) throw wrongCode();
    const codes = newRecoveryCodes();
    await store.transaction(async (inside) => {
      await inside.users.update(user.id, { totpSecret: user.totpPending, totpPending: null, totpStep: step });
      await inside.users.replaceRecoveryCodes(user.id, codes.map(hashToken));
      await inside.sessions.endAll(user.id, caller.session);
      await mailer.post(inside.mails, letters.secondFactor(user, true));
    });
    sessions.forget();
    mailer.ring();
    audit.note(caller, { resource: { type: "user", id: user.id }, action: "mfa_enable", scope: "admin" });
    return codes;
  }

  /** Turns it off. Throws `mfa_required`, `unauthorized`, `rate_limited`. */
  async disable(caller: Person, code: string | undefined): Promise<void> {
    const { store, mailer, audit } = this.ground;
    const user = await this.#row(caller);
    await this.check(user, code);
    await store.transaction(async (inside) => {
      await inside.users.update(user.id, { totpSecret: null, totpPending: null });
      await inside.users.replaceRecoveryCodes(user.id, []);
      await mailer.post(inside.mails, letters.secondFactor(user, false));
    });
    mailer.ring();
    const deed = { resource: { type: "user", id: user.id }, action: "mfa_disable" } as const;
    audit.note(caller, { ...deed, scope: "admin", status: "warning" });
  }

  /** New codes for a lost authenticator; the old ones end. Throws `mfa_required`, `unauthorized`, `invalid_request`. */
  async renewRecoveryCodes(caller: Person, code: string | undefined): Promise<string[]> {
    const user = await this.#row(caller);
    if (user.totpSecret === null)
      throw new WrennError("invalid_request", "The account has no second factor.", { remedy: "Turn it on first." });
    await this.check(user, code);
    const codes = newRecoveryCodes();
    await this.ground.store.transaction((inside) => inside.users.replaceRecoveryCodes(user.id, codes.map(hashToken)));
    return codes;
  }

  /** Lets an account without a second factor pass, and one whose code is right and was not used before. */
  async check(user: UserRow, code: string | undefined): Promise<void> {
    if (user.totpSecret === null) return;
    if (!code)
      throw new WrennError("mfa_required", "A code of the authenticator is needed.", {
        remedy: "Send the same request with `code`: six digits, or a recovery code.",
      });
    const { store, throttle } = this.ground;
    await throttle.attempt("code_account", user.id);
    const step = this.#step(user, user.totpSecret, code);
    const isRight =
      step === undefined
        ? await store.users.takeRecoveryCode(user.id, hashToken(code.toLowerCase()))
        : await store.users.useStep(user.id, step);
    if (!isRight) throw wrongCode();
    await throttle.succeeded("code_account", user.id);
  }

  /** The time step that a code belongs to. */
  #step(user: UserRow, sealed: string, code: string): number | undefined {
    const secret = this.box.open(sealed, purpose + user.id);
    if (secret === undefined)
      throw new WrennError("internal_error", "The second factor was stored under another WRENN_ENCRYPTION_KEY.", {
        remedy: "Start wrenn-cp with the key it was stored under.",
      });
    const delta = totp(user.email, secret).validate({ token: code.replace(/\s/g, ""), window });
    return delta === null ? undefined : Math.floor(Date.now() / stepMs) + delta;
  }

  async #row(caller: Person): Promise<UserRow> {
    return (await this.ground.store.users.find(caller.user.id))!;
  }
}

const totp = (label: string, secret: string): TOTP => new TOTP({ issuer, label, secret: Secret.fromBase32(secret) });

/** Fifty bits each: with six tries in a quarter of an hour nobody guesses one. */
const newRecoveryCodes = (): string[] =>
  Array.from({ length: recoveryCount }, () =>
    new Secret({ size: 7 }).base32
      .toLowerCase()
      .slice(0, 10)
      .replace(/^(.{5})/, "$1-"),
  );

const wrongCode = () =>
  new WrennError("unauthorized", "The code is wrong, too old, or was used.", {
    remedy: "Wait for the next code; check the clock of the authenticator.",
  });
