import type { AccessConfig } from "../../config-access.ts";
import type { PeopleStore } from "../../store/people/index.ts";
import type { Audit } from "./audit.ts";
import type { Mailer } from "./mailer.ts";
import type { Sessions } from "./sessions.ts";
import type { Site } from "./site.ts";
import type { Throttle } from "./throttle.ts";

/** What accounts stand on. */
export type AccountGround = {
  store: PeopleStore;
  sessions: Sessions;
  throttle: Throttle;
  mailer: Mailer;
  site: Site;
  config: AccessConfig;
  audit: Audit;
};
