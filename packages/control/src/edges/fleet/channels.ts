import { rest } from "@wrenn/contract";
import { z } from "zod";
import type { Channels } from "../../services/channels/channels.ts";
import type { DeliveryRow } from "../../store/fleet/channels.ts";
import type { ChannelRow } from "../../store/schema/index.ts";
import { type App, endpoint, type Input } from "../endpoint.ts";

const one = "/v1/channels/{channel}";

/** `/v1/channels`: where a team's events are told to (Wrenn REST API 11). */
export function channelRoutes(app: App, channels: Channels): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/channels", access: "granted", status: 201, codes: ["conflict"] },
      ...{ body: rest.CreateChannel, answer: rest.Channel },
      summary: "Make a channel; the secret of a webhook is shown this once.",
    },
    async ({ caller, body }) => {
      const { row, secret } = await channels.create(caller, body);
      return { ...show(row), ...(secret && { secret }) };
    },
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/channels", access: "granted", status: 200, answer: z.array(rest.Channel) },
      summary: "The team's channels, by name.",
    },
    async ({ caller }) => (await channels.list(caller)).map(show),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/channels/test", access: "granted", status: 200, body: rest.TestChannel },
      ...{ answer: z.object({ status: z.literal("ok") }), codes: ["timeout"] },
      summary: "Send a test message.",
    },
    async ({ caller, body }) => {
      await channels.test(caller, body.provider, body.config);
      return { status: "ok" };
    },
  );
  oneRoutes(app, channels);
  deliveryRoutes(app, channels);
}

function oneRoutes(app: App, channels: Channels): void {
  const get = async ({ caller, c }: Pick<Input<unknown, unknown>, "caller" | "c">) =>
    show(await channels.get(caller, c.req.param("channel")!));
  endpoint(
    app,
    {
      ...{ method: "get", path: one, access: "granted", status: 200, answer: rest.Channel, codes: ["not_found"] },
      summary: "One channel.",
      tagged: true,
    },
    get,
  );
  endpoint(
    app,
    {
      ...{ method: "patch", path: one, access: "granted", status: 200, body: rest.UpdateChannel, answer: rest.Channel },
      summary: "Change a channel's name and events; both are replaced.",
      codes: ["not_found", "conflict"],
      ...{ tagged: true, changes: get },
    },
    async ({ caller, body, c }) => show(await channels.update(caller, c.req.param("channel")!, body)),
  );
  endpoint(
    app,
    {
      ...{ method: "put", path: `${one}/config`, access: "granted", status: 200, codes: ["not_found"] },
      ...{ body: rest.ConfigureChannel, answer: rest.Channel },
      summary: "Replace a channel's configuration; a webhook's new secret is shown this once.",
      changes: get,
    },
    async ({ caller, body, c }) => {
      const { row, secret } = await channels.configure(caller, c.req.param("channel")!, body.config);
      return { ...show(row), ...(secret && { secret }) };
    },
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: one, access: "granted", status: 204, codes: ["not_found"] },
      summary: "Remove a channel.",
      changes: get,
    },
    async ({ caller, c }) => void (await channels.remove(caller, c.req.param("channel")!)),
  );
}

const DeliveryQuery = z.object({
  state: z.enum(["due", "delivered", "dead"]).optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});

function deliveryRoutes(app: App, channels: Channels): void {
  endpoint(
    app,
    {
      ...{ method: "get", path: `${one}/deliveries`, access: "granted", status: 200, codes: ["not_found"] },
      ...{ query: DeliveryQuery, answer: z.array(rest.Delivery) },
      summary: "What was and is on its way to the channel, newest first; `dead` are those that were given up.",
    },
    async ({ caller, query, c }) =>
      (await channels.deliveries(caller, c.req.param("channel")!, query)).map(showDelivery),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: `${one}/deliveries/{delivery}/replay`, access: "granted", status: 202 },
      summary: "Deliver once more, from the first try on.",
      codes: ["not_found"],
    },
    async ({ caller, c }) => {
      await channels.replay(caller, c.req.param("channel")!, c.req.param("delivery")!);
      return {};
    },
  );
}

const show = (row: ChannelRow): rest.Channel => ({
  ...{ id: row.id, team_id: row.teamId, name: row.name, provider: row.provider as rest.ChannelProvider },
  events: row.events as rest.Channel["events"],
  created_at: row.createdAt.toISOString(),
  updated_at: row.updatedAt.toISOString(),
});

const showDelivery = (row: DeliveryRow): rest.Delivery => ({
  ...{ id: row.id, event: row.event, state: row.state, attempts: row.attempts },
  ...(row.status !== null && { status: row.status }),
  ...(row.error && { error: row.error }),
  ...(row.state === "due" && { due_at: row.dueAt.toISOString() }),
  created_at: row.createdAt.toISOString(),
  ...(row.deliveredAt && { delivered_at: row.deliveredAt.toISOString() }),
});
