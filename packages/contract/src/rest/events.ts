import { z } from "zod";

/** Shapes of events, usage and notification channels in the Wrenn dialect (Wrenn REST API 8.3, 8.4, 11, 15). */

/** What happened in a team. */
export const TeamEvent = z
  .object({
    cursor: z.string().optional().meta({ description: "Its place: `after` in a list, `Last-Event-ID` in a stream." }),
    event: z.string(),
    outcome: z.enum(["success", "error"]).optional().meta({ description: "Of actions." }),
    resource: z.object({ id: z.string(), type: z.string() }),
    actor: z.object({ type: z.string(), id: z.string(), name: z.string() }),
    metadata: z.record(z.string(), z.string()),
    error: z.string().optional(),
    timestamp: z.iso.datetime(),
  })
  .meta({ id: "TeamEvent" });
export type TeamEvent = z.infer<typeof TeamEvent>;

/** Ranges of figures: seconds they span, and seconds of one bucket. */
export const statRanges = {
  "5m": [300, 3],
  "1h": [3_600, 30],
  "6h": [21_600, 180],
  "24h": [86_400, 720],
  "30d": [2_592_000, 21_600],
} as const;

/** Answer of `GET /v1/capsules/stats`. */
export const CapsuleStats = z
  .object({
    range: z.string(),
    current: z.object({ running_count: z.int(), vcpus_reserved: z.int(), memory_mb_reserved: z.int() }),
    peaks: z
      .object({ running_count: z.int(), vcpus: z.int(), memory_mb: z.int() })
      .meta({ description: "Most at any time of the last 30 days." }),
    series: z
      .object({
        labels: z.array(z.iso.datetime()),
        running: z.array(z.int()),
        vcpus: z.array(z.int()),
        memory_mb: z.array(z.int()),
      })
      .meta({ description: "The most in each bucket." }),
  })
  .meta({ id: "CapsuleStats" });
export type CapsuleStats = z.infer<typeof CapsuleStats>;

/** Answer of `GET /v1/capsules/usage`. */
export const CapsuleUsage = z
  .object({
    from: z.iso.date(),
    to: z.iso.date(),
    points: z.array(z.object({ date: z.iso.date(), cpu_minutes: z.number(), ram_mb_minutes: z.number() })),
  })
  .meta({ id: "CapsuleUsage" });
export type CapsuleUsage = z.infer<typeof CapsuleUsage>;

/** What channels are told of. */
export const channelEvents = [
  "capsule.created",
  "capsule.running",
  "capsule.paused",
  "capsule.destroyed",
  "template.snapshot.created",
  "template.snapshot.deleted",
  "host.up",
  "host.down",
] as const;

/** Where a channel writes, and what it needs for that. */
export const channelConfigs = {
  discord: ["webhook_url"],
  slack: ["webhook_url"],
  teams: ["webhook_url"],
  googlechat: ["webhook_url"],
  telegram: ["bot_token", "chat_id"],
  matrix: ["homeserver_url", "access_token", "room_id"],
  webhook: ["url"],
} as const;
/** One of the services that channels write to. */
export type ChannelProvider = keyof typeof channelConfigs;

const ChannelName = z
  .string()
  .transform((name) => name.trim().toLowerCase().replace(/\s+/g, "-"))
  .pipe(z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, "1 to 64 letters, digits, `.`, `_`, `-`"));
const ProviderName = z.enum(Object.keys(channelConfigs) as [ChannelProvider, ...ChannelProvider[]]);
const ChannelConfig = z.record(z.string().max(64), z.string().min(1).max(2048));
const ChannelEvents = z.array(z.enum(channelEvents)).min(1);

/** A place that a team's events are told to. What it needs for that is never shown again. */
export const Channel = z
  .object({
    id: z.string(),
    team_id: z.string(),
    name: z.string(),
    provider: ProviderName,
    events: ChannelEvents,
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    secret: z.string().optional().meta({ description: "What a webhook's messages are signed with; shown this once." }),
  })
  .meta({ id: "Channel" });
export type Channel = z.infer<typeof Channel>;

/** Body of `POST /v1/channels`. */
export const CreateChannel = z
  .object({ name: ChannelName, provider: ProviderName, config: ChannelConfig, events: ChannelEvents })
  .meta({ id: "CreateChannel" });
export type CreateChannel = z.infer<typeof CreateChannel>;

/** Body of `PATCH /v1/channels/{channel}`. */
export const UpdateChannel = z.object({ name: ChannelName, events: ChannelEvents }).meta({ id: "UpdateChannel" });

/** Body of `PUT /v1/channels/{channel}/config`. */
export const ConfigureChannel = z.object({ config: ChannelConfig }).meta({ id: "ConfigureChannel" });

/** Body of `POST /v1/channels/test`. */
export const TestChannel = z.object({ provider: ProviderName, config: ChannelConfig }).meta({ id: "TestChannel" });

/** One event on its way to one channel. */
export const Delivery = z
  .object({
    id: z.string(),
    event: z.string(),
    state: z.enum(["due", "delivered", "dead"]),
    attempts: z.int(),
    status: z.int().optional(),
    error: z.string().optional(),
    due_at: z.iso.datetime().optional(),
    created_at: z.iso.datetime(),
    delivered_at: z.iso.datetime().optional(),
  })
  .meta({ id: "Delivery" });
export type Delivery = z.infer<typeof Delivery>;
