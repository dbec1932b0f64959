import { randomBytes } from "node:crypto";
import { type rest, WrennError } from "@wrenn/contract";
import type { Caller } from "../caller.ts";
import type { Keys } from "../keys.ts";
import type { Audit } from "./audit.ts";
import { hashToken, newToken } from "./secrets.ts";
import type { Client } from "./sessions.ts";
import type { Site } from "./site.ts";
import type { Throttle } from "./throttle.ts";

/** Long enough to change to the browser, short enough to be worth nothing in a terminal's history. */
const linkLifeSec = 15 * 60;
/** As long as a person's session can last. */
const browserLifeMs = 30 * 86_400_000;

/** What links stand on. */
type Ground = { keys: Keys; throttle: Throttle; site: Site; audit: Pick<Audit, "note"> };

/** How a browser comes to speak for a team without an account: by a link that opens once, or by a key typed in. */
export class Links {
  constructor(readonly ground: Ground) {}

  /** A link that signs a browser in as the caller's team. Throws `forbidden` for people, who sign in as themselves. */
  async make(caller: Caller): Promise<rest.SignInLink> {
    if (caller.actor.type !== "api_key")
      throw new WrennError("forbidden", "Links are made with an API key.", {
        remedy: "Sign in with your account in that browser instead.",
      });
    const token = newToken();
    await this.ground.keys.store.insertLink(hashToken(token), caller.actor.id, linkLifeSec);
    const expires = new Date(Date.now() + linkLifeSec * 1_000);
    return { url: this.ground.site.dashboard(`/sign-in#once=${token}`), expires_at: expires.toISOString() };
  }

  /** The key that a link gives to the browser that opens it first. Throws `invalid_token`, `rate_limited`. */
  async open(token: string, client: Client): Promise<string> {
    const { keys, throttle } = this.ground;
    await throttle.attempt("token_address", client.ip);
    const from = await keys.store.takeLink(hashToken(token));
    if (!from)
      throw new WrennError("invalid_token", "This link was opened before, or is too old.", {
        remedy: "Get another one with `wrenn dashboard`.",
      });
    const longest = new Date(Date.now() + browserLifeMs);
    const key = `wrn_${randomBytes(16).toString("hex")}`;
    const row = await keys.store.insert(key, {
      ...{ teamId: from.teamId, name: "Browser", createdBy: null, scopes: from.scopes, ofBrowser: true },
      expiresAt: from.expiresAt && from.expiresAt < longest ? from.expiresAt : longest,
    });
    const actor = { type: "api_key", id: from.id, name: from.name } as const;
    const metadata = { how: "link", ip: client.ip };
    this.ground.audit.note(
      { team: from.teamId, actor, requestId: "" },
      { resource: { type: "api_key", id: row.id }, action: "create", metadata },
    );
    return key;
  }

  /** Whether a key opens anything, before a browser keeps it. Throws `unauthorized`, `rate_limited`. */
  async check(key: string, client: Client): Promise<void> {
    await this.ground.throttle.attempt("key_address", client.ip);
    await this.ground.keys.open(key);
  }

  /** Ends a key that was made for a browser alone; one that somebody typed in goes on elsewhere. */
  async leave(key: string): Promise<void> {
    const { keys } = this.ground;
    const { id, team } = await keys.open(key);
    const [row] = await keys.store.list(team, { id });
    if (!row?.ofBrowser) return;
    await keys.store.remove(team, id);
    keys.forget();
  }
}
