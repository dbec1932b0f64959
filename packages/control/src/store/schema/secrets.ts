import { bigint, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { textMap, time } from "./core.ts";

/** Secrets of teams, without their values. */
export const secrets = pgTable("secrets", {
  id: text("id").primaryKey(),
  teamId: text("team_id").notNull(),
  /** In small letters. */
  name: text("name").notNull(),
  currentVersion: bigint("current_version", { mode: "number" }).notNull().default(1),
  metadata: textMap("metadata").notNull().default({}),
  createdAt: time("created_at").notNull().defaultNow(),
  updatedAt: time("updated_at").notNull().defaultNow(),
});

/** The values that secrets have had. */
export const secretVersions = pgTable(
  "secret_versions",
  {
    secretId: text("secret_id").notNull(),
    version: bigint("version", { mode: "number" }).notNull(),
    /** Encrypted. */
    value: text("value").notNull(),
    createdAt: time("created_at").notNull().defaultNow(),
  },
  (table) => [primaryKey({ columns: [table.secretId, table.version] })],
);

/** A secret's row. */
export type SecretRow = typeof secrets.$inferSelect;
