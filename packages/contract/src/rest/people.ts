import { z } from "zod";

/** Shapes of accounts, sessions, teams and keys in the Wrenn dialect (Wrenn REST API 3 to 7). */

/** What a member of a team is. */
export const roles = ["owner", "admin", "member"] as const;
export const Role = z.enum(roles);
export type Role = (typeof roles)[number];

/** Providers that are asked for a password instead of us; which ones there are is the installation's choice. */
export const Provider = z.string().regex(/^[a-z][a-z0-9-]{0,31}$/);

/** Bounds of a password; the hash takes any length, the upper one keeps a request cheap. */
export const passwordLength = { min: 8, max: 1024 } as const;

const Email = z
  .string()
  .trim()
  .toLowerCase()
  .max(254)
  .regex(/^[^\s@\p{C}<>()[\]",;:\\]+@[^\s@\p{C}<>()[\]",;:\\]+$/u, "an e-mail address")
  .meta({ example: "ann@example.com" });
/** Printable: a name stands in mails, logs and lists. */
const PersonName = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .refine((name) => !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(name), "printable characters");
const NewPassword = z.string().min(passwordLength.min).max(passwordLength.max);
const AnyPassword = z.string().max(passwordLength.max);
const Token = z.string().min(1).max(256);

/** The name of a team: letters, digits, blanks and `_ - @ '`. */
export const TeamName = z
  .string()
  .trim()
  .min(1)
  .max(128)
  .regex(/^[\p{L}\p{N} _\-@']+$/u, "letters, digits, blanks and _ - @ '");

/** Body of `POST /v1/auth/signup`. */
export const SignUp = z
  .object({
    email: Email,
    password: NewPassword,
    name: PersonName,
    invitation: Token.optional().meta({
      description: "The token of an invitation by mail: the account is active at once.",
    }),
  })
  .meta({ id: "SignUp" });
export type SignUp = z.infer<typeof SignUp>;

/** Answer of `POST /v1/auth/signup`. */
export const SignedUp = z
  .object({
    message: z.string(),
    activation_url: z
      .string()
      .optional()
      .meta({ description: "Where the account is activated; only of an installation without a mail server." }),
  })
  .meta({ id: "SignedUp" });
export type SignedUp = z.infer<typeof SignedUp>;

/** Body of the routes that take the token of a mailed link. */
export const TokenBody = z.object({ token: Token }).meta({ id: "TokenBody" });

/** Body of `POST /v1/auth/login`. */
export const Login = z
  .object({
    email: Email,
    password: AnyPassword,
    code: z
      .string()
      .trim()
      .max(32)
      .optional()
      .meta({ description: "Six digits of the authenticator, or a recovery code; asked for by `mfa_required`." }),
  })
  .meta({ id: "Login" });
export type Login = z.infer<typeof Login>;

/** Who is signed in. Browsers need only the cookie that comes with it; others send `token` as `Authorization: Bearer`. */
export const AuthResponse = z
  .object({ token: z.string(), user_id: z.string(), team_id: z.string(), email: z.string(), name: z.string() })
  .meta({ id: "AuthResponse" });
export type AuthResponse = z.infer<typeof AuthResponse>;

/** Body of `POST /v1/auth/switch-team`. */
export const SwitchTeam = z.object({ team_id: z.string() }).meta({ id: "SwitchTeam" });

/** Answer of `GET /v1/auth/options`: what a sign-in page has to offer. */
export const AuthOptions = z
  .object({
    signup: z.enum(["open", "invite", "closed"]),
    providers: z.array(z.object({ id: z.string(), name: z.string() })),
    mail: z.boolean().meta({ description: "Whether mails are sent; without, links are in the development outbox." }),
    first_account: z.boolean().meta({ description: "Whether nobody has an account: the first becomes administrator." }),
  })
  .meta({ id: "AuthOptions" });
export type AuthOptions = z.infer<typeof AuthOptions>;

/** Answer of `GET /v1/me`. */
export const Me = z
  .object({
    id: z.string(),
    name: z.string(),
    email: z.string(),
    has_password: z.boolean(),
    providers: z.array(z.string()),
    is_admin: z.boolean(),
    team_id: z.string(),
    role: Role,
    mfa: z.boolean().meta({ description: "Whether a second factor is asked for." }),
    impersonated_by: z.string().optional().meta({ description: "The administrator who acts as this user." }),
  })
  .meta({ id: "Me" });
export type Me = z.infer<typeof Me>;

/** Body of `PATCH /v1/me`. */
export const UpdateMe = z.object({ name: PersonName }).meta({ id: "UpdateMe" });

/** Body of `POST /v1/me/password`. */
export const ChangePassword = z
  .object({
    new_password: NewPassword,
    current_password: AnyPassword.optional(),
    confirm_password: AnyPassword.optional().meta({ description: "The new one again, for an account without one." }),
  })
  .meta({ id: "ChangePassword" });
export type ChangePassword = z.infer<typeof ChangePassword>;

/** Body of `DELETE /v1/me`. */
export const DeleteMe = z.object({ confirmation: z.string().max(254) }).meta({ id: "DeleteMe" });

/** Body of `POST /v1/me/password/reset`. */
export const ResetPassword = z.object({ email: Email }).meta({ id: "ResetPassword" });

/** Body of `POST /v1/me/password/reset/confirm`. */
export const ConfirmReset = z.object({ token: Token, new_password: NewPassword }).meta({ id: "ConfirmReset" });

/** Where somebody is signed in. */
export const Session = z
  .object({
    id: z.string(),
    team_id: z.string(),
    ip: z.string(),
    user_agent: z.string(),
    created_at: z.string(),
    last_used_at: z.string(),
    expires_at: z.string(),
    current: z.boolean(),
  })
  .meta({ id: "Session" });
export type Session = z.infer<typeof Session>;

/** A team as one of its members sees it. */
export const Team = z
  .object({
    id: z.string(),
    name: z.string(),
    slug: z.string(),
    is_byoc: z.boolean(),
    created_at: z.string(),
    role: Role,
  })
  .meta({ id: "Team" });
export type Team = z.infer<typeof Team>;

/** Body of `POST /v1/teams` and `PATCH /v1/teams/{id}`. */
export const NameTeam = z.object({ name: TeamName }).meta({ id: "NameTeam" });

/** A member of a team. */
export const Member = z
  .object({ user_id: z.string(), name: z.string(), email: z.string(), role: Role, joined_at: z.string() })
  .meta({ id: "Member" });
export type Member = z.infer<typeof Member>;

/** Answer of `GET /v1/teams/{id}`. */
export const TeamWithMembers = z.object({ team: Team, members: z.array(Member) }).meta({ id: "TeamWithMembers" });

/** Body of `POST /v1/teams/{id}/members`. */
export const AddMember = z.object({ email: Email }).meta({ id: "AddMember" });

/** Body of `PATCH /v1/teams/{id}/members/{uid}`. */
export const SetRole = z.object({ role: z.enum(["admin", "member"]) }).meta({ id: "SetRole" });

/** Body of `POST /v1/teams/{id}/invitations`. */
export const Invite = z
  .object({ email: Email, role: z.enum(["admin", "member"]).default("member") })
  .meta({ id: "Invite" });
export type Invite = z.infer<typeof Invite>;

/** An invitation that waits for its answer. `url` is there when it is made on an installation without a mail server. */
export const Invitation = z
  .object({
    id: z.string(),
    email: z.string(),
    role: Role,
    invited_by: z.string().optional(),
    created_at: z.string(),
    expires_at: z.string(),
    url: z.string().optional(),
  })
  .meta({ id: "Invitation" });
export type Invitation = z.infer<typeof Invitation>;

/** Body of `POST /v1/teams/{id}/transfer`. */
export const TransferTeam = z.object({ user_id: z.string() }).meta({ id: "TransferTeam" });

/** Somebody one shares a team with. */
export const FoundUser = z.object({ user_id: z.string(), email: z.string() }).meta({ id: "FoundUser" });
export type FoundUser = z.infer<typeof FoundUser>;

/**
 * What a key may do; a key without scopes may do everything a team's program can. Channels are for people, and for keys
 * that were made for them.
 */
export const scopes = [
  "sandboxes:read",
  "sandboxes:write",
  "sandboxes:exec",
  "templates:read",
  "templates:write",
  "events:read",
  "channels:read",
  "channels:write",
  "secrets:read",
  "secrets:write",
] as const;
export const Scope = z.enum(scopes);
export type Scope = (typeof scopes)[number];

/** Body of `POST /v1/api-keys`. */
export const CreateApiKey = z
  .object({
    name: z.string().trim().max(100).default(""),
    scopes: z.array(Scope).min(1).max(scopes.length).optional().meta({ description: "Absent: everything." }),
    expires_at: z.iso.datetime({ offset: true }).optional().meta({ description: "When it ends; absent: never." }),
  })
  .meta({ id: "CreateApiKey" });
export type CreateApiKey = z.infer<typeof CreateApiKey>;

/** Body of `PATCH /v1/api-keys/{key}`. */
export const UpdateApiKey = z.object({ name: z.string().trim().min(1).max(100) }).meta({ id: "UpdateApiKey" });
export type UpdateApiKey = z.infer<typeof UpdateApiKey>;

/** An API key; what it opens is shown once, when it is made. */
export const ApiKey = z
  .object({
    id: z.string(),
    team_id: z.string(),
    name: z.string(),
    key_prefix: z.string(),
    created_by: z.string().optional(),
    creator_email: z.string().optional(),
    scopes: z.array(Scope).optional(),
    created_at: z.string(),
    last_used: z.string().optional(),
    expires_at: z.string().optional(),
  })
  .meta({ id: "ApiKey" });
export type ApiKey = z.infer<typeof ApiKey>;

/** Answer of `POST /v1/api-keys`. */
export const NewApiKey = ApiKey.extend({ key: z.string() }).meta({ id: "NewApiKey" });
export type NewApiKey = z.infer<typeof NewApiKey>;

/** Body of `POST /v1/auth/key`. */
export const KeyBody = z.object({ key: z.string().trim().min(1).max(128) }).meta({ id: "KeyBody" });

/** A link that signs a browser in once. */
export const SignInLink = z
  .object({
    url: z.string().meta({ description: "The token stands behind the #: no server and no log sees it." }),
    expires_at: z.iso.datetime(),
  })
  .meta({ id: "SignInLink" });
export type SignInLink = z.infer<typeof SignInLink>;

/** A mail of the development outbox. */
export const OutboxMail = z
  .object({ id: z.string(), to: z.string(), subject: z.string(), text: z.string(), created_at: z.string() })
  .meta({ id: "OutboxMail" });
export type OutboxMail = z.infer<typeof OutboxMail>;

/** Answer of `POST /v1/me/mfa`: what an authenticator is set up with. */
export const MfaEnrolment = z
  .object({ secret: z.string(), url: z.string().meta({ description: "otpauth://, for a QR code." }) })
  .meta({ id: "MfaEnrolment" });

/** Body of the routes that ask for a code of the authenticator. */
export const CodeBody = z.object({ code: z.string().trim().min(1).max(32) }).meta({ id: "CodeBody" });

/** Codes for a lost authenticator; each works once. */
export const RecoveryCodes = z.object({ recovery_codes: z.array(z.string()) }).meta({ id: "RecoveryCodes" });

/** Answer of `GET /v1/me/providers/{provider}/connect`. */
export const ConnectProvider = z.object({ auth_url: z.string() }).meta({ id: "ConnectProvider" });

/** An entry of the audit log. */
export const AuditEntry = z
  .object({
    id: z.string(),
    actor_type: z.enum(["user", "api_key", "system"]),
    actor_id: z.string().optional(),
    actor_name: z.string().optional(),
    resource_type: z.string(),
    resource_id: z.string().optional(),
    action: z.string(),
    scope: z.enum(["team", "admin"]),
    status: z.enum(["success", "info", "warning", "error"]),
    metadata: z.record(z.string(), z.string()).optional(),
    created_at: z.string(),
    seq: z.int().optional().meta({ description: "Its number in the team's chain, without gaps." }),
    hash: z.string().optional().meta({ description: "Keyed hash over this entry and the one before it." }),
  })
  .meta({ id: "AuditEntry" });
export type AuditEntry = z.infer<typeof AuditEntry>;

/** Answer of `GET /v1/audit-logs`. */
export const AuditPage = z
  .object({ items: z.array(AuditEntry), next_before: z.string().optional(), next_before_id: z.string().optional() })
  .meta({ id: "AuditPage" });

/** Answer of `GET /v1/audit-logs/verify`. */
export const AuditVerdict = z
  .object({
    ok: z.boolean(),
    entries: z.int().meta({ description: "How many entries are as they were written." }),
    broken: z.object({ seq: z.int(), reason: z.string() }).optional(),
  })
  .meta({ id: "AuditVerdict" });
