/** An internal sandbox id: 25 base-36 characters, the value of 128 random bits, left-padded with zeros. */
export type SandboxId = string & { readonly __brand: "SandboxId" };

const idLength = 25; // 36^25 > 2^128 > 36^24
const idPattern = /^[0-9a-z]{25}$/;

/** Public prefixes of ids; `capsule` is the public word for a sandbox in the Wrenn dialect, and stands only here. */
export const prefixes = {
  capsule: "cl-",
  team: "team-",
  apiKey: "key-",
  host: "host-",
  user: "usr-",
  session: "ses-",
  invitation: "inv-",
  audit: "log-",
} as const;

/** 25 random base-36 characters. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const value = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return value.toString(36).padStart(idLength, "0");
}

/** A new sandbox id. */
export const newSandboxId = (): SandboxId => randomId() as SandboxId;

/** The id in the Wrenn dialect: `cl-` and the 25 characters. */
export const capsuleId = (id: SandboxId): string => prefixes.capsule + id;

/** Reads an id with or without its prefix; `undefined` when the shape is wrong. */
export function parseSandboxId(text: string): SandboxId | undefined {
  const bare = text.startsWith(prefixes.capsule) ? text.slice(prefixes.capsule.length) : text;
  return idPattern.test(bare) ? (bare as SandboxId) : undefined;
}

/** The "safe name" rule of templates, snapshots and channels. */
export const safeName = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;

/** Names of sandboxes: safe ones that nobody can take for an id. */
export const sandboxName = /^(?!(cl-)?[0-9a-z]{25}$)[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;

/** What a sandbox can be created from: a safe name, with or without the tag of a version. */
export const taggedName = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}(:[a-zA-Z0-9][a-zA-Z0-9._-]{0,127})?$/;

/** Port of the guest agent in every sandbox. */
export const agentPort = 49983;
