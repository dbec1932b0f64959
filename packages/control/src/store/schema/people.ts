import type { rest } from "@wrenn/contract";
import { bigint, boolean, doublePrecision, integer, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { textMap, time } from "./core.ts";

/** People with an account. A deleted one keeps its row until it is erased. */
export const users = pgTable("users", {
  id: text("id").primaryKey(),
  /** In lower case; one living account for each. */
  email: text("email").notNull(),
  name: text("name").notNull(),
  /** Argon2id; null for people who come through a provider only. */
  passwordHash: text("password_hash"),
  isAdmin: boolean("is_admin").notNull().default(false),
  status: text("status").$type<"inactive" | "active" | "disabled" | "deleted">().notNull(),
  totpSecret: text("totp_secret"),
  totpPending: text("totp_pending"),
  totpStep: bigint("totp_step", { mode: "number" }).notNull().default(0),
  createdAt: time("created_at").notNull().defaultNow(),
  updatedAt: time("updated_at").notNull().defaultNow(),
  deletedAt: time("deleted_at"),
});

/** Who belongs to which team, and as what. */
export const memberships = pgTable("memberships", {
  userId: text("user_id").notNull(),
  teamId: text("team_id").notNull(),
  role: text("role").$type<rest.Role>().notNull(),
  isDefault: boolean("is_default").notNull().default(false),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** Accounts elsewhere that open an account here. */
export const identities = pgTable("identities", {
  provider: text("provider").notNull(),
  subject: text("subject").notNull(),
  userId: text("user_id").notNull(),
  email: text("email").notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** Signed-in people; only the SHA-256 of a session's token is kept. */
export const sessions = pgTable("sessions", {
  id: text("id").primaryKey(),
  tokenHash: text("token_hash").notNull(),
  userId: text("user_id").notNull(),
  teamId: text("team_id").notNull(),
  /** The administrator who acts as this user. */
  impersonatorId: text("impersonator_id"),
  ip: text("ip").notNull(),
  userAgent: text("user_agent").notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
  lastUsedAt: time("last_used_at").notNull().defaultNow(),
  expiresAt: time("expires_at").notNull(),
});

/** What a link in a mail opens, once. */
export const oneTimeTokens = pgTable("one_time_tokens", {
  tokenHash: text("token_hash").primaryKey(),
  purpose: text("purpose").$type<"activation" | "password_reset">().notNull(),
  userId: text("user_id").notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
  expiresAt: time("expires_at").notNull(),
});

/** Links that sign a browser in once, as the team of the key that made them. */
export const signInLinks = pgTable("sign_in_links", {
  tokenHash: text("token_hash").primaryKey(),
  keyId: text("key_id").notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
  expiresAt: time("expires_at").notNull(),
});

/** Codes that stand in for a lost authenticator, hashed. */
export const recoveryCodes = pgTable("recovery_codes", {
  userId: text("user_id").notNull(),
  codeHash: text("code_hash").notNull(),
});

/** Invitations to a team that were not accepted yet. */
export const invitations = pgTable("invitations", {
  id: text("id").primaryKey(),
  tokenHash: text("token_hash").notNull(),
  teamId: text("team_id").notNull(),
  email: text("email").notNull(),
  role: text("role").$type<Exclude<rest.Role, "owner">>().notNull(),
  invitedBy: text("invited_by"),
  createdAt: time("created_at").notNull().defaultNow(),
  expiresAt: time("expires_at").notNull(),
});

/** Mails that wait to be sent; without a mail server they are the development outbox. */
export const mails = pgTable("mails", {
  id: text("id").primaryKey(),
  recipient: text("recipient").notNull(),
  subject: text("subject").notNull(),
  /** Encrypted: it holds links that open accounts. */
  letter: text("letter").notNull(),
  attempts: integer("attempts").notNull().default(0),
  error: text("error").notNull().default(""),
  createdAt: time("created_at").notNull().defaultNow(),
  dueAt: time("due_at").notNull().defaultNow(),
});

/** Leaky buckets that limit guessing, shared by all replicas. */
export const attempts = pgTable("attempts", {
  bucket: text("bucket").primaryKey(),
  emptyAt: timestamp("empty_at", { withTimezone: true }).notNull(),
});

/** A user's row. */
export type UserRow = typeof users.$inferSelect;
/** A session's row. */
export type SessionRow = typeof sessions.$inferSelect;

/** Who did what; `seq` and `hash` are there once a row is sealed into its team's chain. */
export const auditLogs = pgTable("audit_logs", {
  n: bigint("n", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
  id: text("id").notNull(),
  teamId: text("team_id").notNull(),
  actorType: text("actor_type").notNull(),
  actorId: text("actor_id").notNull().default(""),
  actorName: text("actor_name").notNull().default(""),
  /** Keyed digest of the name, which the chain holds in its place. */
  actorDigest: text("actor_digest").notNull().default(""),
  resourceType: text("resource_type").notNull(),
  resourceId: text("resource_id").notNull().default(""),
  action: text("action").notNull(),
  scope: text("scope").$type<"team" | "admin">().notNull(),
  status: text("status").$type<"success" | "info" | "warning" | "error">().notNull(),
  metadata: textMap("metadata").notNull().default({}),
  createdAt: time("created_at").notNull().defaultNow(),
  seq: bigint("seq", { mode: "number" }),
  hash: text("hash"),
});

/** The end of each team's chain. */
export const auditHeads = pgTable("audit_heads", {
  teamId: text("team_id").primaryKey(),
  seq: bigint("seq", { mode: "number" }).notNull(),
  hash: text("hash").notNull(),
});

/** An entry of the audit log. */
export type AuditRow = typeof auditLogs.$inferSelect;

/** How much a team may have; null is no limit, and the row of team `*` is for teams without one. */
export const quotas = pgTable("quotas", {
  teamId: text("team_id").primaryKey(),
  sandboxes: integer("sandboxes"),
  vcpus: integer("vcpus"),
  memoryMb: bigint("memory_mb", { mode: "number" }),
  diskMb: bigint("disk_mb", { mode: "number" }),
  createsPerSec: doublePrecision("creates_per_sec"),
  maxTimeoutSec: integer("max_timeout_sec"),
});

/** A row of limits. */
export type QuotaRow = typeof quotas.$inferSelect;
