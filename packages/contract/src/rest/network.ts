import { z } from "zod";

/** Every address, as `allow` and `deny` write it. */
export const everywhere = ["0.0.0.0/0", "::/0"] as const;

/** Most entries of each list: what a firewall looks through without a pause, and more than people keep apart. */
const most = 1_000;

const label = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
const hostName = new RegExp(`^(?:\\*\\.)?(?:${label}\\.)*${label}$`);
const addressShape = z.union([z.ipv4(), z.cidrv4(), z.ipv6(), z.cidrv6()]);

/** Whether a rule is an address or a range, and no name. */
export const isAddress = (rule: string): boolean => addressShape.safeParse(rule).success;

/** Whether `name` is what a rule names: itself, every name below it where that begins with `*.`, any for `*`. */
export const namesHost = (rule: string, name: string): boolean =>
  rule === "*" || (rule.startsWith("*.") ? name.endsWith(rule.slice(1)) : name === rule);

const Address = z
  .string()
  .trim()
  .refine(isAddress, "an IP address or a range such as 203.0.113.0/24; names are for `allow`");
const Host = z
  .string()
  .trim()
  .max(255)
  .toLowerCase()
  // What looks like an address and is none would be a name that no resolver knows.
  .refine((text) => text === "*" || (hostName.test(text) && !/^[\d.]+$/.test(text)), "a host name, or `*.` before one");
const AddressOrHost = z
  .string()
  .trim()
  .max(255)
  .toLowerCase()
  .refine(
    (text) => isAddress(text) || Host.safeParse(text).success,
    "an IP address, a range such as 203.0.113.0/24, a host name, or `*.` before one",
  );

/** Header fields that say where a message ends or which connection it is on: another value would break the request apart. */
const framing = /^(host|connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive|expect|proxy-.*)$/i;
const HeaderName = z
  .string()
  .regex(/^[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,128}$/, "a header's name")
  .refine((name) => !framing.test(name), "a header that does not frame the message");
const HeaderValue = z
  .string()
  .max(16_384)
  .regex(/^[\t\x20-\x7e\x80-\xff]*$/, "one line of text");

/** What stands for a secret's value in a header of a rule. */
export const secretPlaceholder = (name: string): string => `\${secrets.${name}}`;

/** What requests to one host get on their way out. */
export const NetworkRule = z
  .strictObject({
    transform: z.strictObject({
      headers: z.record(HeaderName, HeaderValue).meta({
        description: `Set on every request, in place of what the sandbox sent. \`${secretPlaceholder("NAME")}\` becomes a secret's value, which the sandbox never sees.`,
        example: { authorization: `Bearer ${secretPlaceholder("openai")}` },
      }),
    }),
  })
  .meta({ id: "NetworkRule" });

/**
 * What a sandbox may reach. Private networks, cloud metadata, its host and other sandboxes it never may.
 */
export const NetworkPolicy = z
  .object({
    internet: z.boolean().default(true).meta({ description: "Whether it may reach what neither list names." }),
    allow: z
      .array(AddressOrHost)
      .max(most)
      .default([])
      .meta({
        description: "Reached in any case: addresses, ranges, and host names (`*.` before one: every name below it).",
        example: ["pypi.org", "*.pythonhosted.org", "203.0.113.0/24"],
      }),
    deny: z.array(Address).max(most).default([]).meta({ description: "Not reached: addresses and ranges." }),
    rules: z
      .record(Host, z.array(NetworkRule).max(16))
      .default({})
      .refine((rules) => Object.keys(rules).length <= 100, "at most 100 hosts")
      .meta({ description: "What requests to a host get on their way out, by host name." }),
  })
  .refine(
    ({ internet, allow }) => !internet || allow.every(isAddress),
    "host names in `allow` need `internet: false`: everything else is reached otherwise",
  )
  .meta({ id: "NetworkPolicy" });
export type NetworkPolicy = z.infer<typeof NetworkPolicy>;
/** What a client sends: defaults are optional. */
export type NetworkPolicyInput = z.input<typeof NetworkPolicy>;

/** Connections of a sandbox to one port of one host, of the last hour. */
export const NetworkFlow = z
  .object({
    host: z.string().optional().meta({ description: "The name it asked for, where that was seen." }),
    ip: z.string().optional(),
    port: z.int(),
    protocol: z.enum(["tcp", "udp"]),
    count: z.int().meta({ description: "Connections, or what was refused of them." }),
    last_at: z.string(),
    sent_bytes: z.int().optional().meta({ description: "Where they go through the host agent." }),
    received_bytes: z.int().optional(),
  })
  .meta({ id: "NetworkFlow" });
export type NetworkFlow = z.infer<typeof NetworkFlow>;

/** Query of `GET /v1/capsules/{id}/network`. */
export const NetworkQuery = z.object({
  follow: z
    .enum(["true", "false"])
    .default("false")
    .meta({ description: "As server-sent `network` events: at once, then whenever something of it changes." }),
});

/** Answer of `GET /v1/capsules/{id}/network`. */
export const CapsuleNetwork = z
  .object({
    sandbox_id: z.string(),
    policy: NetworkPolicy,
    detail: z.string().meta({ description: "How its host holds that; empty while it does not run." }),
    connections: z.array(NetworkFlow).meta({ description: "What it reached, the newest first." }),
    denials: z.array(NetworkFlow).meta({ description: "What it was refused, the newest first." }),
  })
  .meta({ id: "CapsuleNetwork" });
export type CapsuleNetwork = z.infer<typeof CapsuleNetwork>;
