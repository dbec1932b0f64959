import type { Services } from "../../services/index.ts";
import type { App } from "../endpoint.ts";
import { adminRoutes, quotaRoutes } from "./admin.ts";
import { adminCapsuleRoutes } from "./admin-capsules.ts";
import { adminPeopleRoutes } from "./admin-people.ts";
import { adminBuildRoutes, adminTemplateRoutes } from "./admin-templates.ts";
import { auditRoutes } from "./audit.ts";
import { openAuthRoutes, sessionRoutes } from "./auth.ts";
import type { Doorway } from "./client.ts";
import { keyRoutes } from "./keys.ts";
import { linkRoutes, openLinkRoutes } from "./links.ts";
import { meRoutes } from "./me.ts";
import { mfaRoutes } from "./mfa.ts";
import { connectRoutes, openOauthRoutes } from "./oauth.ts";
import { openOutboxRoutes } from "./outbox.ts";
import { invitationRoutes, memberRoutes, teamRoutes } from "./teams.ts";

/** Routes that everybody may call; they are added before the door. */
export function openRoutes(app: App, services: Services, doorway: Doorway): void {
  openAuthRoutes(app, services, doorway);
  openLinkRoutes(app, services, doorway);
  openOauthRoutes(app, services, doorway);
  openOutboxRoutes(app, services);
}

/** Routes of people who are signed in. */
export function peopleRoutes(app: App, services: Services, doorway: Doorway): void {
  sessionRoutes(app, services, doorway);
  linkRoutes(app, services);
  meRoutes(app, services);
  mfaRoutes(app, services);
  connectRoutes(app, services);
  auditRoutes(app, services.audit);
  quotaRoutes(app, services);
  adminPeopleRoutes(app, services);
  adminRoutes(app, services);
  adminCapsuleRoutes(app, services);
  adminTemplateRoutes(app, services);
  adminBuildRoutes(app, services);
  keyRoutes(app, services);
  teamRoutes(app, services.teams);
  memberRoutes(app, services.teams);
  invitationRoutes(app, services.teams);
}
