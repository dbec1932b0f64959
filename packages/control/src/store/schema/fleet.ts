import { bigint, boolean, integer, pgTable, primaryKey, text, timestamp } from "drizzle-orm/pg-core";

const time = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });
const count = (name: string) => bigint(name, { mode: "number" }).notNull().default(0);

/** What an operator wants of a host. Only an `active` one takes new sandboxes. */
export type HostMode = "active" | "cordoned" | "draining" | "maintenance";
/** Whether a host was ever there, and whether some replica hears it. */
export type HostStatus = "pending" | "online" | "unreachable";

/** Machines that run sandboxes. */
export const hosts = pgTable("hosts", {
  id: text("id").primaryKey(),
  /** `http://HOST:PORT` of the local host, `https://HOST:PORT` of one that registered; empty before that. */
  address: text("address").notNull(),
  type: text("type").$type<"regular" | "byoc">().notNull().default("regular"),
  /** The only team it serves; null for all that have no hosts of their own. */
  teamId: text("team_id"),
  provider: text("provider").notNull().default(""),
  zone: text("zone").notNull().default(""),
  arch: text("arch").notNull().default(""),
  cpuCores: integer("cpu_cores").notNull().default(0),
  memoryMib: count("memory_mib"),
  diskMib: count("disk_mib"),
  /** Memory that sandboxes may reserve; 0 while unknown, which refuses nothing. */
  capacityMib: count("capacity_mib"),
  status: text("status").$type<HostStatus>().notNull().default("pending"),
  mode: text("mode").$type<HostMode>().notNull().default("active"),
  isLocal: boolean("is_local").notNull().default(false),
  /** SHA-256 of its certificate, hex. */
  certFingerprint: text("cert_fingerprint").notNull().default(""),
  /** Of the certificate before: good until its agent has read the new one. */
  certPrevious: text("cert_previous").notNull().default(""),
  certExpiresAt: time("cert_expires_at"),
  /** When a replica last heard its stream of changes. */
  lastSeenAt: time("last_seen_at"),
  /** When it last called. */
  lastHeartbeatAt: time("last_heartbeat_at"),
  /** Hosts of the same class can resume each other's sandboxes, by way of the same object store. */
  moveClass: text("move_class").notNull().default(""),
  storeId: text("store_id").notNull().default(""),
  createdBy: text("created_by").notNull().default(""),
  createdAt: time("created_at").notNull().defaultNow(),
  updatedAt: time("updated_at").notNull().defaultNow(),
  deletedAt: time("deleted_at"),
});

/** Secrets of hosts; only their SHA-256 is kept. */
export const hostTokens = pgTable("host_tokens", {
  hash: text("hash").primaryKey(),
  hostId: text("host_id").notNull(),
  kind: text("kind").$type<"registration" | "access" | "refresh">().notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
  expiresAt: time("expires_at").notNull(),
});

/** Words that operators stick on hosts. */
export const hostTags = pgTable(
  "host_tags",
  { hostId: text("host_id").notNull(), tag: text("tag").notNull() },
  (table) => [primaryKey({ columns: [table.hostId, table.tag] })],
);

/** What sandboxes have reserved of each host, kept by triggers. */
export const hostLoads = pgTable("host_loads", {
  hostId: text("host_id").primaryKey(),
  memoryMib: count("memory_mib"),
  vcpus: count("vcpus"),
  sandboxes: count("sandboxes"),
});

/** A host's row. */
export type HostRow = typeof hosts.$inferSelect;
