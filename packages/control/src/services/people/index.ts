import type { AccessConfig } from "../../config-access.ts";
import type { Log } from "../../log.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import type { Caller } from "../caller.ts";
import type { Keys } from "../keys.ts";
import { type AccountGround, Accounts } from "./accounts.ts";
import type { Audit } from "./audit.ts";
import { Mailer } from "./mailer.ts";
import { Profile } from "./profile.ts";
import { Providers } from "./providers.ts";
import { SecondFactor } from "./second-factor.ts";
import { Box } from "./secrets.ts";
import { Sessions } from "./sessions.ts";
import { Site } from "./site.ts";
import { Teams } from "./teams.ts";
import { Throttle } from "./throttle.ts";

/** What services about people stand on, and what of the others they end. */
export type PeopleGround = {
  peopleStore: PeopleStore;
  access: AccessConfig;
  /** What secrets that must be read again are encrypted with; 32 bytes. */
  encryptionKey: Buffer;
  keys: Keys;
  audit: Audit;
  log: Log;
  /** Destroys every sandbox of a team; those that cannot be reached now are destroyed when they can. */
  destroySandboxes(caller: Caller, team: string): Promise<void>;
};

/** Builds the services about people. */
export function buildPeople({ peopleStore: store, access: config, keys, audit, log, ...rest }: PeopleGround) {
  const box = new Box(rest.encryptionKey);
  const site = new Site(config.publicUrl, config.dashboardUrl);
  const sessions = new Sessions(store, log);
  const throttle = new Throttle(store.attempts);
  const mailer = new Mailer({ store: store.mails, box, smtp: config.smtp, log });
  const ground: AccountGround = { store, sessions, throttle, mailer, site, config, audit };
  const secondFactor = new SecondFactor(ground, box);
  const accounts = new Accounts(ground, secondFactor);
  const teams = new Teams({
    ...ground,
    revokeKeys: (team, createdBy) => keys.revokeAll({ team, createdBy }),
    destroySandboxes: rest.destroySandboxes,
  });
  const profile = new Profile(ground, {
    revokeKeys: (createdBy) => keys.revokeAll({ createdBy }),
    dissolve: (caller, team) => teams.dissolve(caller, team),
  });
  const providers = new Providers(ground, accounts, box);
  return { site, sessions, mailer, accounts, profile, secondFactor, providers, teams };
}
