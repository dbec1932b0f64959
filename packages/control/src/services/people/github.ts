import { WrennError } from "@wrenn/contract";
import * as oidc from "openid-client";
import type { ProviderOptions } from "../../config-access.ts";
import type { ProviderProfile } from "./provider-profile.ts";

const site = "https://github.com";
const api = "https://api.github.com";
const timeoutMs = 10_000;

/** GitHub speaks OAuth without discovery (GitHub documentation, "Authorizing OAuth apps"). */
export function githubConfiguration({ clientId, clientSecret, baseUrl = site }: ProviderOptions): oidc.Configuration {
  const server = {
    issuer: baseUrl,
    authorization_endpoint: `${baseUrl}/login/oauth/authorize`,
    token_endpoint: `${baseUrl}/login/oauth/access_token`,
  };
  const configuration = new oidc.Configuration(
    server,
    clientId,
    { client_secret: clientSecret },
    oidc.ClientSecretPost(clientSecret),
  );
  if (baseUrl.startsWith("http://")) oidc.allowInsecureRequests(configuration);
  return configuration;
}

type User = { id?: unknown; name?: unknown; login?: unknown };
type Email = { email?: unknown; primary?: unknown; verified?: unknown };

/** Who owns a token: the numeric id, which never changes hands, and the primary address if it was verified. */
export async function githubProfile({ baseUrl }: ProviderOptions, token: string): Promise<ProviderProfile> {
  const root = baseUrl === undefined ? api : `${baseUrl}/api/v3`;
  const [user, emails] = await Promise.all([
    get<User>(`${root}/user`, token),
    get<Email[]>(`${root}/user/emails`, token),
  ]);
  if (typeof user.id !== "number") throw new WrennError("agent_error", "GitHub named no user.");
  const primary = emails.find((one) => one.primary === true && one.verified === true)?.email;
  return {
    subject: String(user.id),
    email: typeof primary === "string" ? primary : undefined,
    name: [user.name, user.login].find((one): one is string => typeof one === "string" && one !== ""),
  };
}

async function get<T>(url: string, token: string): Promise<T> {
  const answer = await fetch(url, {
    headers: { authorization: `Bearer ${token}`, accept: "application/vnd.github+json", "user-agent": "wrenn" },
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (!answer.ok) throw new WrennError("agent_error", `GitHub answered ${answer.status}.`);
  return (await answer.json()) as T;
}
