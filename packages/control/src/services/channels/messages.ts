import { createHmac, randomBytes } from "node:crypto";
import { capsuleId, type rest, type SandboxId } from "@wrenn/contract";
import type { Message } from "./destination.ts";

/** What a channel is told: an event under the channel's own name of it. */
export type Telling = {
  /** The delivery's id: the same at every try. */
  id: string;
  event: string;
  at: Date;
  team: string;
  resource: { id: string; type: "sandbox" | "snapshot" | "host" };
  actor: { type: string; id: string; name: string };
};

/** What a channel's provider needs. */
export type Config = Readonly<Record<string, string>>;

/** A secret that webhooks are signed with: 64 hex digits (Wrenn control plane 10). */
export const newSecret = (): string => randomBytes(32).toString("hex");

/** The resource of an event, as channels name it. */
export function resourceOf(event: string, id: string): Telling["resource"] {
  if (event.startsWith("capsule.")) return { id: capsuleId(id as SandboxId), type: "sandbox" };
  return { id, type: event.startsWith("host.") ? "host" : "snapshot" };
}

/** A telling as its provider takes it. */
export function compose(provider: rest.ChannelProvider, config: Config, telling: Telling): Message {
  return makers[provider](config, telling);
}

const json = (url: string, body: unknown, more: Record<string, string> = {}): Message => ({
  url,
  headers: { "content-type": "application/json", "user-agent": "Wrenn", ...more },
  body: JSON.stringify(body),
});

const makers: Record<rest.ChannelProvider, (config: Config, telling: Telling) => Message> = {
  discord: (config, telling) =>
    json(config.webhook_url!, { content: textOf(telling), allowed_mentions: { parse: [] } }),
  slack: (config, telling) => json(config.webhook_url!, { text: textOf(telling) }),
  teams: (config, telling) => json(config.webhook_url!, { text: textOf(telling).replaceAll("\n", "\n\n") }),
  googlechat: (config, telling) => json(config.webhook_url!, { text: textOf(telling) }),
  telegram: (config, telling) =>
    json(`https://api.telegram.org/bot${encodeURIComponent(config.bot_token!).replace("%3A", ":")}/sendMessage`, {
      chat_id: config.chat_id,
      text: textOf(telling),
    }),
  matrix: (config, telling) => {
    const room = encodeURIComponent(config.room_id!);
    // The transaction's id makes a repeated try no second message (Matrix client-server API, 10.7).
    const path = `/_matrix/client/v3/rooms/${room}/send/m.room.message/${telling.id}`;
    const message = json(
      new URL(path, config.homeserver_url).href,
      { msgtype: "m.text", body: textOf(telling) },
      {
        authorization: `Bearer ${config.access_token}`,
      },
    );
    return { ...message, method: "PUT" };
  },
  webhook: (config, telling) => webhook(config.url!, config.secret!, telling),
};

/**
 * Signed twice: as the original does (hex HMAC-SHA256 of `timestamp.body`), and as Standard Webhooks does (base64
 * HMAC-SHA256 of `id.timestamp.body`, with the secret's bytes).
 */
function webhook(url: string, secret: string, telling: Telling): Message {
  const { id, event, at, team, actor, resource } = telling;
  const timestamp = `${Math.floor(Date.now() / 1_000)}`;
  const message = json(url, { event, timestamp: at.toISOString(), team_id: team, actor, resource });
  const mac = (key: string | Buffer, text: string) => createHmac("sha256", key).update(text);
  return {
    ...message,
    headers: {
      ...message.headers,
      "X-WRENN-SIGNATURE": `sha256=${mac(secret, `${timestamp}.${message.body}`).digest("hex")}`,
      "X-Wrenn-Delivery": id,
      "X-Wrenn-Timestamp": timestamp,
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": `v1,${mac(Buffer.from(secret, "hex"), `${id}.${timestamp}.${message.body}`).digest("base64")}`,
    },
  };
}

const words: Readonly<Record<string, string>> = {
  "capsule.created": "Sandbox created",
  "capsule.running": "Sandbox resumed",
  "capsule.paused": "Sandbox paused",
  "capsule.destroyed": "Sandbox destroyed",
  "template.snapshot.created": "Snapshot created",
  "template.snapshot.deleted": "Snapshot deleted",
  "host.up": "Host is back",
  "host.down": "Host is out of reach",
  "channel.test": "This is a test",
};

/** A message for people: a line that says it, then the facts. */
function textOf({ event, resource, actor, team, at }: Telling): string {
  return [
    `Wrenn: ${words[event] ?? event}`,
    `Event: ${event}`,
    `Resource: ${resource.type} ${resource.id}`,
    `Actor: ${actor.name || actor.type}`,
    `Team: ${team}`,
    `Time: ${at.toISOString()}`,
  ].join("\n");
}
