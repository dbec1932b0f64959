import { rest, WrennError } from "@wrenn/contract";
import type { ChannelStore, DeliveryRow } from "../../store/fleet/channels.ts";
import type { ChannelRow } from "../../store/schema/index.ts";
import type { Caller } from "../caller.ts";
import type { Box } from "../people/secrets.ts";
import { sealedFor } from "./courier.ts";
import { checkDestination, send } from "./destination.ts";
import { type Config, compose, newSecret } from "./messages.ts";

/** What the service stands on. */
export type ChannelsGround = { store: ChannelStore; box: Box; allowsPrivate: boolean };

/** A team's notification channels. */
export class Channels {
  constructor(readonly ground: ChannelsGround) {}

  /** A new channel; of a webhook also the secret that its messages are signed with, which is not shown again. */
  async create(caller: Caller, wanted: rest.CreateChannel): Promise<{ row: ChannelRow; secret: string | undefined }> {
    const { config, secret } = this.#complete(wanted.provider, wanted.config);
    const { name, provider, events } = wanted;
    const row = await this.ground.store.insert({ teamId: caller.team, name, provider, config, events });
    if (!row) throw taken(name);
    return { row, secret };
  }

  /** The team's channels. */
  list(caller: Caller): Promise<ChannelRow[]> {
    return this.ground.store.list(caller.team);
  }

  /** One of them. Throws `not_found`. */
  async get(caller: Caller, id: string): Promise<ChannelRow> {
    const row = await this.ground.store.find(caller.team, id);
    if (row) return row;
    throw new WrennError("not_found", "There is no such channel.", { remedy: "`GET /v1/channels` lists the team's." });
  }

  /** Gives a channel another name and other events. */
  async update(caller: Caller, id: string, change: { name: string; events: string[] }): Promise<ChannelRow> {
    const row = await this.get(caller, id);
    const changed = await this.ground.store.update(id, { ...change, config: row.config });
    if (!changed) throw taken(change.name);
    return changed;
  }

  /** Gives a channel another configuration; a webhook gets a new secret. */
  async configure(caller: Caller, id: string, given: Config): Promise<{ row: ChannelRow; secret: string | undefined }> {
    const row = await this.get(caller, id);
    const { config, secret } = this.#complete(row.provider as rest.ChannelProvider, given);
    return { row: (await this.ground.store.update(id, { ...row, config })) ?? row, secret };
  }

  /** Removes a channel. */
  async remove(caller: Caller, id: string): Promise<void> {
    await this.ground.store.remove((await this.get(caller, id)).id);
  }

  /** Sends a test message without keeping anything. Throws what the sending does. */
  async test(caller: Caller, provider: rest.ChannelProvider, given: Config): Promise<void> {
    const { plain } = this.#complete(provider, given);
    const message = compose(provider, plain, {
      ...{ id: crypto.randomUUID(), event: "channel.test", at: new Date(), team: caller.team, actor: caller.actor },
      resource: { id: caller.team, type: "host" },
    });
    const status = await send(message, this.ground.allowsPrivate);
    if (status >= 200 && status < 300) return;
    throw new WrennError("invalid_request", `The destination answered with status ${status}.`, {
      remedy: "Check the address and what it needs.",
      details: { status: `${status}` },
    });
  }

  /** What was and is on its way to a channel, newest first. */
  async deliveries(
    caller: Caller,
    id: string,
    filter: { state?: string | undefined; limit: number },
  ): Promise<DeliveryRow[]> {
    return await this.ground.store.deliveries((await this.get(caller, id)).id, filter);
  }

  /** Delivers once more, from the first try on. */
  async replay(caller: Caller, id: string, delivery: string): Promise<void> {
    if (await this.ground.store.replay((await this.get(caller, id)).id, delivery)) return;
    throw new WrennError("not_found", "The channel has no such delivery.");
  }

  /** Checks a configuration and seals it. Throws `invalid_request` that names what is missing or wrong. */
  #complete(provider: rest.ChannelProvider, given: Config) {
    const names: readonly string[] = rest.channelConfigs[provider];
    const missing = names.find((name) => !given[name]);
    const strange = Object.keys(given).find((name) => !names.includes(name) && name !== "secret");
    if (missing ?? strange)
      throw new WrennError(
        "invalid_request",
        `body field "config.${missing ?? strange}" is ${missing ? "missing" : "unknown"}.`,
        {
          remedy: `A channel to ${provider} needs ${names.join(", ")}.`,
          details: { field: `config.${missing ?? strange}` },
        },
      );
    for (const name of names) if (name.endsWith("url")) checkDestination(given[name]!, this.ground.allowsPrivate);
    const secret = provider === "webhook" ? newSecret() : undefined;
    const plain = Object.fromEntries(names.map((name) => [name, given[name]!]));
    if (secret) plain.secret = secret;
    return { plain, secret, config: this.ground.box.seal(JSON.stringify(plain), sealedFor) };
  }
}

const taken = (name: string) =>
  new WrennError("conflict", `The team has a channel "${name}".`, { remedy: "Choose another name." });
