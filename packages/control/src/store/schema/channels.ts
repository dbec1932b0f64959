import { pgTable, text, timestamp } from "drizzle-orm/pg-core";

const time = (name: string) => timestamp(name, { withTimezone: true, precision: 3 });

/** Places that a team's events are told to. */
export const channels = pgTable("channels", {
  id: text("id").primaryKey(),
  teamId: text("team_id").notNull(),
  name: text("name").notNull(),
  provider: text("provider").notNull(),
  /** Encrypted. */
  config: text("config").notNull(),
  events: text("events").array().notNull(),
  createdAt: time("created_at").notNull().defaultNow(),
  updatedAt: time("updated_at").notNull().defaultNow(),
});

/** A channel's row. */
export type ChannelRow = typeof channels.$inferSelect;
