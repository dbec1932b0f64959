import type { rest } from "@wrenn/contract";
import type { Api } from "./api.ts";
import { pathOf } from "./lifecycle.ts";
import { connected, dataOf, type FollowOptions } from "./server-events.ts";

/** What a sandbox may reach. Private networks, cloud metadata, its host and other sandboxes it never may. */
export type NetworkPolicy = {
  /** Whether it may reach what neither list names; default true. */
  internet?: boolean | undefined;
  /**
   * Reached in any case: addresses, ranges such as `203.0.113.0/24`, and host names, `*.` before one for every name
   * below it. Names need `internet: false`.
   */
  allow?: readonly string[] | undefined;
  /** Not reached: addresses and ranges. */
  deny?: readonly string[] | undefined;
  /**
   * Headers that requests to a host get on their way out, by host name, in place of what the sandbox sent.
   * `${secrets.NAME}` in a value becomes a secret of the team, which the sandbox never sees.
   */
  headers?: Readonly<Record<string, Readonly<Record<string, string>>>> | undefined;
};

/** Connections of a sandbox to one port of one host, in the last hour. */
export type NetworkFlow = {
  /** The name it asked for, where that was seen. */
  host: string | undefined;
  ip: string | undefined;
  port: number;
  protocol: "tcp" | "udp";
  /** Connections, or what was refused of them. */
  count: number;
  lastAt: Date;
  /** Known where they go through the host agent, as they do when the policy names hosts. */
  sentBytes: number | undefined;
  receivedBytes: number | undefined;
};

/** A sandbox's policy, what it reached and what it was refused, the newest first. */
export type NetworkInfo = {
  policy: Required<{ [K in keyof NetworkPolicy]: NonNullable<NetworkPolicy[K]> }>;
  /** How its host holds that; empty while it does not run. */
  detail: string;
  connections: NetworkFlow[];
  denials: NetworkFlow[];
};

/**
 * A policy as the REST API takes it.
 * @internal
 */
export function networkBody({ internet, allow, deny, headers }: NetworkPolicy): rest.NetworkPolicyInput {
  const rules = Object.entries(headers ?? {}).map(([host, set]) => [host, [{ transform: { headers: { ...set } } }]]);
  return {
    ...(internet === undefined ? {} : { internet }),
    ...(allow === undefined ? {} : { allow: [...allow] }),
    ...(deny === undefined ? {} : { deny: [...deny] }),
    ...(rules.length === 0 ? {} : { rules: Object.fromEntries(rules) }),
  };
}

/**
 * An answer of the REST API in the SDK's words.
 * @internal
 */
export const networkInfo = ({ policy, detail, connections, denials }: rest.CapsuleNetwork): NetworkInfo => ({
  policy: {
    internet: policy.internet,
    allow: policy.allow,
    deny: policy.deny,
    headers: Object.fromEntries(
      Object.entries(policy.rules).map(([host, rules]) => [
        host,
        Object.assign({}, ...rules.map(({ transform }) => transform.headers)),
      ]),
    ),
  },
  detail,
  connections: connections.map(flow),
  denials: denials.map(flow),
});

/**
 * A sandbox's network as it is, then whenever it changes, until the sandbox is gone or `signal` aborts.
 * @internal
 */
export async function* followNetwork(
  client: Api,
  id: string,
  options: FollowOptions,
): AsyncGenerator<NetworkInfo, void> {
  for await (const block of connected(client, `${pathOf(id)}/network?follow=true`, options)) {
    if (/^event: end$/m.test(block)) return;
    const found = dataOf<rest.CapsuleNetwork>(block);
    if (found) yield networkInfo(found);
  }
}

const flow = (from: rest.NetworkFlow): NetworkFlow => ({
  host: from.host,
  ip: from.ip,
  port: from.port,
  protocol: from.protocol,
  count: from.count,
  lastAt: new Date(from.last_at),
  sentBytes: from.sent_bytes,
  receivedBytes: from.received_bytes,
});
