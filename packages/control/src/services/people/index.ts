import type { AccessConfig } from "../../config-access.ts";
import type { Log } from "../../log.ts";
import type { Owned } from "../../store/people/admin.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import type { Caller } from "../caller.ts";
import type { Keys } from "../keys.ts";
import type { AccountGround } from "./account-ground.ts";
import { Accounts } from "./accounts.ts";
import { Admin } from "./admin.ts";
import type { Audit } from "./audit.ts";
import { Janitor } from "./janitor.ts";
import { Links } from "./links.ts";
import { Mailer } from "./mailer.ts";
import { Profile } from "./profile.ts";
import { Providers } from "./providers.ts";
import type { Quotas } from "./quotas.ts";
import { SecondFactor } from "./second-factor.ts";
import { Box } from "./secrets.ts";
import { Sessions } from "./sessions.ts";
import { Settings } from "./settings.ts";
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
  quotas: Quotas;
  log: Log;
  /** Destroys every sandbox and volume of a team that was deleted; those that cannot be reached now, when they can. */
  emptyTeam(caller: Caller, team: string): Promise<void>;
  /** Destroys some sandboxes, likewise. */
  destroy(caller: Caller, sandboxes: readonly Owned[]): void;
};

/** Builds the services about people. */
export function buildPeople(from: PeopleGround) {
  const { peopleStore: store, access: config, keys, audit, quotas, log } = from;
  const box = new Box(from.encryptionKey);
  const site = new Site(config.publicUrl, config.dashboardUrl);
  const sessions = new Sessions(store, log);
  const throttle = new Throttle(store.attempts);
  const mailer = new Mailer({ store: store.mails, box, smtp: config.smtp, log });
  const ground: AccountGround = { store, sessions, throttle, mailer, site, config, audit };
  const settings = new Settings(store, config, quotas);
  const secondFactor = new SecondFactor(ground, box);
  const accounts = new Accounts(ground, secondFactor, settings);
  const teams = new Teams({
    ...ground,
    revokeKeys: (team, createdBy) => keys.revokeAll({ team, createdBy }),
    emptyTeam: from.emptyTeam,
  });
  const profile = new Profile(ground, {
    revokeKeys: (createdBy) => keys.revokeAll({ createdBy }),
    dissolve: (caller, team) => teams.dissolve(caller, team),
  });
  const admin = new Admin(ground, teams, { revokeKeys: (of) => keys.revokeAll(of), destroy: from.destroy });
  const providers = new Providers(ground, accounts, box);
  const links = new Links({ keys, throttle, site, audit });
  const janitor = new Janitor(store, mailer, log);
  return { site, sessions, mailer, settings, accounts, profile, secondFactor, providers, teams, admin, links, janitor };
}
