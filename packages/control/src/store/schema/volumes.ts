import { pgTable, text } from "drizzle-orm/pg-core";
import { time } from "./core.ts";

/** Volumes of teams; their files are on the host. */
export const volumes = pgTable("volumes", {
  id: text("id").primaryKey(),
  teamId: text("team_id").notNull(),
  hostId: text("host_id").notNull(),
  name: text("name").notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
});

/** A volume's row. */
export type VolumeRow = typeof volumes.$inferSelect;
