import { z } from "zod";

/** Shapes of quotas and of what administrators of an installation see (Wrenn REST API 13). */

const limit = z.int().min(0).max(1_000_000_000);

/** How much a team may have; what is absent has no limit. */
export const QuotaLimits = z
  .object({
    sandboxes: limit.optional().meta({ description: "Running and paused together." }),
    vcpus: limit.optional().meta({ description: "Of sandboxes that are not paused." }),
    memory_mb: limit.optional().meta({ description: "Of sandboxes that are not paused." }),
    disk_mb: limit.optional(),
    creates_per_sec: z.number().positive().max(10_000).optional(),
    max_timeout_sec: z.int().min(1).max(2_592_000).optional(),
  })
  .meta({ id: "QuotaLimits" });
export type QuotaLimits = z.infer<typeof QuotaLimits>;

/** A team's limits, and what it has. */
export const QuotaState = z
  .object({
    limits: QuotaLimits,
    used: z.object({ sandboxes: z.int(), vcpus: z.int(), memory_mb: z.int(), disk_mb: z.int() }),
  })
  .meta({ id: "QuotaState" });
export type QuotaState = z.infer<typeof QuotaState>;

const page = { total: z.int(), page: z.int(), per_page: z.int(), total_pages: z.int() };

/** A team as administrators see it. */
export const AdminTeam = z
  .object({
    id: z.string(),
    name: z.string(),
    slug: z.string(),
    is_byoc: z.boolean(),
    created_at: z.string(),
    deleted_at: z.string().optional(),
    member_count: z.int(),
    owner_name: z.string(),
    owner_email: z.string(),
    active_sandbox_count: z.int(),
    channel_count: z.int(),
  })
  .meta({ id: "AdminTeam" });
export type AdminTeam = z.infer<typeof AdminTeam>;

/** A page of teams. */
export const AdminTeams = z.object({ teams: z.array(AdminTeam), ...page }).meta({ id: "AdminTeams" });
export type AdminTeams = z.infer<typeof AdminTeams>;

/** An account as administrators see it. */
export const AdminUser = z
  .object({
    id: z.string(),
    email: z.string(),
    name: z.string(),
    is_admin: z.boolean(),
    status: z.enum(["inactive", "active", "disabled", "deleted"]),
    mfa: z.boolean(),
    created_at: z.string(),
    teams_joined: z.int(),
    teams_owned: z.int(),
  })
  .meta({ id: "AdminUser" });
export type AdminUser = z.infer<typeof AdminUser>;

/** A page of accounts. */
export const AdminUsers = z.object({ users: z.array(AdminUser), ...page }).meta({ id: "AdminUsers" });
export type AdminUsers = z.infer<typeof AdminUsers>;

/** Body of `PUT /v1/admin/teams/{id}/byoc`: it cannot be taken back. */
export const SetByoc = z.object({ enabled: z.literal(true) }).meta({ id: "SetByoc" });

/** Body of `PUT /v1/admin/users/{id}/active`. */
export const SetActive = z.object({ active: z.boolean() }).meta({ id: "SetActive" });

/** Body of `PUT /v1/admin/users/{id}/admin`. */
export const SetAdmin = z.object({ is_admin: z.boolean() }).meta({ id: "SetAdmin" });

/** Body of `POST /v1/admin/users/{id}/impersonate`: why, for the audit log. */
export const Impersonate = z.object({ reason: z.string().trim().min(1).max(500) }).meta({ id: "Impersonate" });

/** What administrators decide for the whole installation. */
export const Settings = z
  .object({
    signup: z.enum(["open", "invite", "closed"]),
    default_quotas: QuotaLimits,
    features: z
      .record(z.string().regex(/^[a-z][a-z0-9_.-]{0,63}$/), z.boolean())
      .meta({ description: "Flags by name; everybody who is signed in may read them." }),
  })
  .meta({ id: "Settings" });
export type Settings = z.infer<typeof Settings>;

/** Body of `PATCH /v1/admin/settings`: what is absent stays. */
export const UpdateSettings = Settings.partial().meta({ id: "UpdateSettings" });
export type UpdateSettings = z.infer<typeof UpdateSettings>;

/** Answer of `GET /v1/features`. */
export const Features = z.object({ features: z.record(z.string(), z.boolean()) }).meta({ id: "Features" });

/** Body of `POST /v1/admin/capsules/{id}/snapshot`. */
export const AdminSnapshot = z.object({ name: z.string().optional() }).meta({ id: "AdminSnapshot" });

/** A template of any team, as administrators see it. */
export const AdminTemplate = z
  .object({
    name: z.string(),
    type: z.enum(["base", "snapshot"]),
    vcpus: z.int(),
    memory_mb: z.int(),
    size_bytes: z.int(),
    team_id: z.string(),
    platform: z.boolean().meta({ description: "Whether every team may start from it." }),
    created_at: z.string(),
  })
  .meta({ id: "AdminTemplate" });
export type AdminTemplate = z.infer<typeof AdminTemplate>;

/** Body of `PUT /v1/admin/templates/{name}/platform`. */
export const SetPlatform = z.object({ platform: z.boolean() }).meta({ id: "SetPlatform" });
