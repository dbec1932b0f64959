/** Services that channels write to, and what each needs. */
export const providers: Record<string, { name: string; fields: [field: string, label: string, secret?: boolean][] }> = {
  webhook: { name: "Webhook", fields: [["url", "Address"]] },
  slack: { name: "Slack", fields: [["webhook_url", "Webhook address", true]] },
  discord: { name: "Discord", fields: [["webhook_url", "Webhook address", true]] },
  teams: { name: "Microsoft Teams", fields: [["webhook_url", "Webhook address", true]] },
  googlechat: { name: "Google Chat", fields: [["webhook_url", "Webhook address", true]] },
  telegram: {
    name: "Telegram",
    fields: [
      ["bot_token", "Token of the bot", true],
      ["chat_id", "Chat id"],
    ],
  },
  matrix: {
    name: "Matrix",
    fields: [
      ["homeserver_url", "Home server"],
      ["access_token", "Access token", true],
      ["room_id", "Room id"],
    ],
  },
};

/** What channels can be told of. */
export const channelEvents = [
  "capsule.created",
  "capsule.running",
  "capsule.paused",
  "capsule.destroyed",
  "template.snapshot.created",
  "template.snapshot.deleted",
  "host.up",
  "host.down",
];
