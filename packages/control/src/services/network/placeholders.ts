import { type hostagent, rest, WrennError } from "@wrenn/contract";

/** What stands for a value in a header of a rule. `e2b.` before it is how clients of that dialect write it. */
const placeholder = /\$\{\s*(?:e2b\.)?(secrets|identity\.tokens)\.([A-Za-z0-9_-]{1,128})\s*\}/g;
const anyPlaceholder = /\$\{[^}]*\}/g;

/** Longest value of a header, and what it may consist of: a line break would be another header. */
const maxHeaderLength = 16_384;
const headerText = /^[\t\x20-\x7e\x80-\xff]*$/;

/** A placeholder: of what kind, and its name. */
export type Placeholder = { readonly kind: "secrets" | "identity.tokens"; readonly name: string };

/** Where values come from. `undefined`: there is none of this name. */
export type Values = (wanted: Placeholder) => Promise<string | undefined>;

/** Every header of a policy, with the host whose requests get it. */
function* headersOf({ rules }: rest.NetworkPolicy): Generator<{ host: string; name: string; text: string }> {
  for (const [host, list] of Object.entries(rules))
    for (const { transform } of list)
      for (const [name, text] of Object.entries(transform.headers)) yield { host, name, text };
}

/** Throws `invalid_request` for a placeholder that is none of ours, or whose value is missing or cannot be sent. */
export async function checkPlaceholders(policy: rest.NetworkPolicy, values: Values): Promise<void> {
  for (const { host, name, text } of headersOf(policy)) {
    const strange = [...text.matchAll(anyPlaceholder)].find(([one]) => one.replace(placeholder, "") !== "");
    if (strange) throw refused(`"${strange[0]}" in the header ${name} for ${host} stands for nothing`);
    await filled(text, values, (wanted) => {
      throw refused(`there is no ${wanted.kind === "secrets" ? "secret" : "identity token"} "${wanted.name}"`);
    });
  }
}

/**
 * A policy as a host gets it, values in place of placeholders. A header whose value is not to be had any more is left
 * out: the request then goes without it, rather than the sandbox not start.
 */
export async function render(policy: rest.NetworkPolicy, values: Values): Promise<Rendered> {
  const { internet, allow, deny } = policy;
  const byHost = new Map<string, Record<string, string>>();
  for (const { host, name, text } of headersOf(policy)) {
    const value = await filled(text, values, () => undefined).catch(() => undefined);
    const headers = byHost.get(host) ?? {};
    byHost.set(host, headers);
    if (value !== undefined) headers[name.toLowerCase()] = value;
  }
  return { internet, allow, deny, rules: [...byHost].map(([host, headers]) => ({ host, headers })) };
}

/** The parts of {@link hostagent.NetworkPolicy}. */
export type Rendered = Pick<hostagent.NetworkPolicy, "internet" | "allow" | "deny"> & {
  rules: Pick<hostagent.HeaderRule, "host" | "headers">[];
};

async function filled(
  text: string,
  values: Values,
  missing: (wanted: Placeholder) => undefined,
): Promise<string | undefined> {
  let result = "";
  let at = 0;
  for (const match of text.matchAll(placeholder)) {
    const wanted = { kind: match[1] as Placeholder["kind"], name: match[2]! };
    const value = await values(wanted);
    if (value === undefined) return missing(wanted);
    if (!headerText.test(value))
      throw refused(`the secret "${wanted.name}" holds what no header can, such as a line break`);
    result += text.slice(at, match.index) + value;
    at = match.index + match[0].length;
  }
  result += text.slice(at);
  if (result.length > maxHeaderLength) throw refused(`a header of a rule is longer than ${maxHeaderLength} characters`);
  return result;
}

const refused = (what: string) =>
  new WrennError("invalid_request", `Network rules: ${what}.`, {
    remedy: `Write ${rest.secretPlaceholder("NAME")}, with the name of a secret that the team has (\`GET /secrets\`).`,
  });
