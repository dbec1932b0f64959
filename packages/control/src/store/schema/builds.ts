import type { SandboxId } from "@wrenn/contract";
import { type SQL, sql } from "drizzle-orm";
import { bigint, boolean, customType, integer, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import type { Plan } from "../../services/builds/plan.ts";
import type { Actor } from "../../services/caller.ts";

/** `jsonb` of any shape. Sent as text and read there: Bun.SQL takes an array for an array of the database, and text for a JSON text. */
const json = <T>(name: string) =>
  customType<{ data: T; driverData: SQL }>({
    dataType: () => "jsonb",
    toDriver: (value) => sql`${JSON.stringify(value)}::text::jsonb`,
    fromDriver: (value) => value as unknown as T,
  })(name);
const time = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });

/** `waiting` builds are announced and not yet complete; the queue holds the pending ones. */
export type BuildStatus = "waiting" | "pending" | "running" | "success" | "failed" | "cancelled";

/** Why a build failed, and at which instruction, if it was one. */
export type BuildError = { message: string; remedy?: string; line?: number; step?: number; at?: "base" | "finalize" };

/** User, folder and environment of commands that name none, and the size that a template is frozen at. */
export type Defaults = { user: string; workdir: string; env: Record<string, string> };

/** What a build began with, as its digest says. */
export type Provenance = { name: string; digest: string };

/** What was submitted, for whoever looks at the build later; the plan is what is carried out. */
export type BuildSource = { kind: "dockerfile" | "recipe" | "steps"; base: string; text: string; healthcheck?: string };

/** Names under which versions are found. */
export const templates = pgTable("templates", {
  id: text("id").primaryKey(),
  teamId: text("team_id").notNull(),
  name: text("name").notNull(),
  /** Whether every team may start sandboxes from it. */
  platform: boolean("platform").notNull().default(false),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** Every build; a successful one is a version of its template. */
export const builds = pgTable("builds", {
  id: text("id").primaryKey(),
  templateId: text("template_id").notNull(),
  teamId: text("team_id").notNull(),
  number: bigint("number", { mode: "number" }).generatedAlwaysAsIdentity(),
  status: text("status").$type<BuildStatus>().notNull(),
  plan: json<Plan>("plan").notNull(),
  source: json<BuildSource>("source").notNull(),
  tags: json<string[]>("tags").notNull(),
  actor: json<Actor>("actor").notNull(),
  vcpus: integer("vcpus").notNull(),
  memoryMib: integer("memory_mib").notNull(),
  timeoutSec: integer("timeout_sec").notNull(),
  noCache: boolean("no_cache").notNull().default(false),
  currentStep: integer("current_step").notNull().default(0),
  totalSteps: integer("total_steps").notNull().default(0),
  attempts: integer("attempts").notNull().default(0),
  cancelAsked: boolean("cancel_asked").notNull().default(false),
  leaseOwner: text("lease_owner").notNull().default(""),
  leaseUntil: time("lease_until"),
  error: json<BuildError>("error"),
  /** Credentials of a registry, encrypted; empty when there are none, and once it is over. */
  secret: text("secret").notNull().default(""),
  snapshotId: text("snapshot_id").notNull().default(""),
  hostId: text("host_id").notNull().default(""),
  sandboxId: text("sandbox_id").$type<SandboxId | "">().notNull().default(""),
  sizeBytes: bigint("size_bytes", { mode: "number" }).notNull().default(0),
  defaults: json<Defaults>("defaults").notNull(),
  provenance: json<Provenance[]>("provenance").notNull().default([]),
  createdAt: time("created_at").notNull().defaultNow(),
  startedAt: time("started_at"),
  completedAt: time("completed_at"),
});

/** Names of versions of a template. */
export const templateTags = pgTable("template_tags", {
  templateId: text("template_id").notNull(),
  tag: text("tag").notNull(),
  buildId: text("build_id").notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** What builds print, in order. */
export const buildLogs = pgTable("build_logs", {
  buildId: text("build_id").notNull(),
  seq: bigint("seq", { mode: "number" }).generatedAlwaysAsIdentity(),
  at: time("at").notNull(),
  /** 0 before the first instruction. */
  step: integer("step").notNull(),
  stream: text("stream").$type<LogStream>().notNull(),
  message: text("message").notNull(),
});

/** `step` begins an instruction, `cached` says that it was not needed, `done` ends it; the rest is what it prints. */
export type LogStream = "step" | "cached" | "done" | "stdout" | "stderr" | "info" | "warn" | "error";

/** What a step led to. */
export const buildCache = pgTable("build_cache", {
  teamId: text("team_id").notNull(),
  key: text("key").notNull(),
  snapshotId: text("snapshot_id").notNull(),
  hostId: text("host_id").notNull(),
  usedAt: time("used_at").notNull().defaultNow(),
});

/** Uploaded archives. */
export const buildFiles = pgTable("build_files", {
  teamId: text("team_id").notNull(),
  hash: text("hash").notNull(),
  sizeBytes: bigint("size_bytes", { mode: "number" }).notNull(),
  usedAt: time("used_at").notNull().defaultNow(),
});

/** A template's row. */
export type TemplateRow = typeof templates.$inferSelect;
/** A build's row. */
export type BuildRow = typeof builds.$inferSelect;
/** What an insert of a build takes. */
export type NewBuild = typeof builds.$inferInsert;
/** A line of a build's log. */
export type LogRow = typeof buildLogs.$inferSelect;
