import type { SandboxId, State } from "@wrenn/contract";
import { bigint, boolean, customType, integer, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { terms } from "./e2b.ts";
import { mountList } from "./mounts.ts";
import { networkPolicy } from "./network.ts";

/** A `jsonb` of text to text. Bun.SQL encodes objects itself; drizzle's own `jsonb` would encode them a second time. */
export const textMap = customType<{ data: Record<string, string>; driverData: Record<string, string> }>({
  dataType: () => "jsonb",
});
/** A point in time, to the millisecond. */
export const time = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });

const hexPair = (): string => Buffer.from(crypto.getRandomValues(new Uint8Array(3))).toString("hex");
/** Two groups of six hex digits (Wrenn REST API 1.2). */
const newSlug = (): string => `${hexPair()}-${hexPair()}`;

/** Who owns sandboxes. */
export const teams = pgTable("teams", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  slug: text("slug").notNull().$defaultFn(newSlug),
  /** Whether its sandboxes run on its own hosts only. */
  isByoc: boolean("is_byoc").notNull().default(false),
  createdAt: time("created_at").notNull().defaultNow(),
  deletedAt: time("deleted_at"),
});

/** API keys; only the SHA-256 of a key is kept. */
export const apiKeys = pgTable("api_keys", {
  id: text("id").primaryKey(),
  teamId: text("team_id").notNull(),
  name: text("name").notNull(),
  keyHash: text("key_hash").notNull(),
  keyPrefix: text("key_prefix").notNull(),
  /** Who made it; null for the key of the installation, and when that account is gone. */
  createdBy: text("created_by"),
  /** What it may do, separated by blanks; null for everything. */
  scopes: text("scopes"),
  /** Made for a browser's cookie: nobody has seen it, and signing out ends it. */
  ofBrowser: boolean("of_browser").notNull().default(false),
  createdAt: time("created_at").notNull().defaultNow(),
  lastUsedAt: time("last_used_at"),
  expiresAt: time("expires_at"),
});

/** Every sandbox ever created; environment variables are not kept, they go to the host and nowhere else. */
export const sandboxes = pgTable("sandboxes", {
  id: text("id").$type<SandboxId>().primaryKey(),
  teamId: text("team_id").notNull(),
  hostId: text("host_id").notNull(),
  /** What its team calls it; empty when it has no name. */
  name: text("name").notNull().default(""),
  template: text("template").notNull(),
  /** Id of the snapshot its memory and disk stand on; empty for the template. */
  origin: text("origin").notNull().default(""),
  state: text("state").$type<State>().notNull(),
  run: bigint("run", { mode: "number" }).notNull(),
  version: bigint("version", { mode: "number" }).notNull().default(0),
  vcpus: integer("vcpus").notNull(),
  memoryMib: integer("memory_mib").notNull(),
  diskMib: integer("disk_mib").notNull(),
  diskUsedBytes: bigint("disk_used_bytes", { mode: "number" }).notNull().default(0),
  /** Whether it is paused and has kept its disk alone. */
  diskOnly: boolean("disk_only").notNull().default(false),
  timeoutSec: integer("timeout_sec").notNull(),
  timeoutAction: text("timeout_action").$type<"pause" | "kill">().notNull(),
  /** When its time is up, whatever it does; null when only inactivity counts. */
  endAt: time("end_at"),
  /** What a client of the E2B dialect asked for; null for sandboxes of the Wrenn dialect. */
  terms: terms("terms"),
  /** What it may reach; null: whatever its host allows. */
  network: networkPolicy("network"),
  /** Volumes of its host that are mounted in it; null: none. */
  mounts: mountList("mounts"),
  metadata: textMap("metadata").notNull().default({}),
  versions: textMap("versions").notNull().default({}),
  guestIp: text("guest_ip").notNull().default(""),
  hostIp: text("host_ip").notNull().default(""),
  reason: text("reason").notNull().default(""),
  /** Who asked for the change under way; cleared by the database when the sandbox comes to rest. */
  askedBy: textMap("asked_by"),
  /** Of a paused one that no host has: its name in the object store, which store, and which hosts can resume it. */
  parcel: text("parcel").notNull().default(""),
  storeId: text("store_id").notNull().default(""),
  moveClass: text("move_class").notNull().default(""),
  parcelBytes: bigint("parcel_bytes", { mode: "number" }).notNull().default(0),
  createdAt: time("created_at").notNull().defaultNow(),
  startedAt: time("started_at"),
  lastActiveAt: time("last_active_at"),
  updatedAt: time("updated_at").notNull().defaultNow(),
});

/** Points in time of sandboxes, under the ids their hosts gave them; a snapshot outlives its sandbox. */
export const snapshots = pgTable("snapshots", {
  id: text("id").primaryKey(),
  teamId: text("team_id").notNull(),
  name: text("name").notNull(),
  hostId: text("host_id").notNull(),
  sandboxId: text("sandbox_id").$type<SandboxId>().notNull(),
  /** The snapshot before it in its line; empty for the first. */
  parentId: text("parent_id").notNull(),
  template: text("template").notNull(),
  vcpus: integer("vcpus").notNull(),
  memoryMib: integer("memory_mib").notNull(),
  diskMib: integer("disk_mib").notNull(),
  sizeBytes: bigint("size_bytes", { mode: "number" }).notNull(),
  /** What was mounted in its sandbox, and is in what is started from it. */
  mounts: mountList("mounts"),
  metadata: textMap("metadata").notNull().default({}),
  /** Made by a build, which looks after it; the team does not see it. */
  ofBuild: boolean("of_build").notNull().default(false),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** What all replicas share, by name. */
export const settings = pgTable("settings", {
  name: text("name").primaryKey(),
  value: text("value").notNull(),
});

/** Ports that anybody may reach. */
export const publicPorts = pgTable("public_ports", {
  sandboxId: text("sandbox_id").$type<SandboxId>().notNull(),
  port: integer("port").notNull(),
});

/** Keys under which sandboxes were asked for, so that asking again makes no second one. */
export const idempotencyKeys = pgTable("idempotency_keys", {
  teamId: text("team_id").notNull(),
  key: text("key").notNull(),
  /** SHA-256 of the request. */
  digest: text("digest").notNull(),
  sandboxId: text("sandbox_id").$type<SandboxId>().notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** A sandbox's row. */
export type SandboxRow = typeof sandboxes.$inferSelect;
/** What an insert takes. */
export type NewSandbox = typeof sandboxes.$inferInsert;
/** A snapshot's row. */
export type SnapshotRow = typeof snapshots.$inferSelect;
/** What an insert of a snapshot takes. */
export type NewSnapshot = typeof snapshots.$inferInsert;
