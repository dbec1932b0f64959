import { WrennError } from "@wrenn/contract";

/** How mails leave: an SMTP server. */
export type Smtp = { host: string; port: number; username?: string; password?: string; from: string };
/** An issuer of OpenID Connect, or GitHub, that people may sign in with. */
export type ProviderOptions = {
  id: string;
  name: string;
  /** Of OpenID Connect; absent for GitHub. */
  issuer?: string;
  /** Of a GitHub Enterprise server. */
  baseUrl?: string;
  clientId: string;
  clientSecret: string;
};
/** Who may make an account. */
export type SignUpPolicy = "open" | "invite" | "closed";

/** What concerns people and access, as it is written; everything may be absent. */
export type AccessOptions = {
  /** Where browsers find this server; links in mails and answers of providers lead there. */
  publicUrl?: string | undefined;
  /** Where browsers find the dashboard, if it is somewhere else. */
  dashboardUrl?: string | undefined;
  smtp?: Smtp | undefined;
  providers?: readonly ProviderOptions[] | undefined;
  /** 64 hex digits; without it a key in the database does, which does not protect against who can read that. */
  encryptionKey?: string | undefined;
  signUp?: SignUpPolicy | undefined;
  /** Origins beside our own whose pages may call the API with a session. */
  corsOrigins?: readonly string[] | undefined;
  /** How many reverse proxies append to `X-Forwarded-For` before a request arrives. */
  trustedProxies?: number | undefined;
};

/** The same, complete and checked. */
export type AccessConfig = Readonly<{
  publicUrl: string | undefined;
  dashboardUrl: string | undefined;
  smtp: Smtp | undefined;
  providers: readonly ProviderOptions[];
  encryptionKey: string | undefined;
  signUp: SignUpPolicy;
  corsOrigins: readonly string[];
  trustedProxies: number;
}>;

/** Checks and completes options. Throws `invalid_request` with a remedy. */
export function compileAccess(options: AccessOptions = {}): AccessConfig {
  const { encryptionKey, signUp = "open", trustedProxies = 0 } = options;
  if (encryptionKey !== undefined && !/^[0-9a-f]{64}$/i.test(encryptionKey))
    throw bad("WRENN_ENCRYPTION_KEY is not 64 hex digits.", "Make one with `openssl rand -hex 32`, and keep it.");
  if (!["open", "invite", "closed"].includes(signUp))
    throw bad(`WRENN_SIGNUP is "${signUp}".`, "Set it to open, invite or closed.");
  if (!Number.isInteger(trustedProxies) || trustedProxies < 0)
    throw bad("WRENN_TRUSTED_PROXIES is not a number.", "Set it to how many proxies stand before this server.");
  return Object.freeze({
    publicUrl: origin("CP_PUBLIC_URL", options.publicUrl),
    dashboardUrl: origin("OAUTH_REDIRECT_URL", options.dashboardUrl),
    smtp: options.smtp,
    providers: options.providers ?? [],
    encryptionKey,
    signUp,
    corsOrigins: [...(options.corsOrigins ?? []), options.dashboardUrl].flatMap(originOf),
    trustedProxies,
  });
}

/** Reads options from the environment (Wrenn control plane 13). */
export function accessFromEnvironment(env: Readonly<Record<string, string | undefined>>): AccessOptions {
  return {
    publicUrl: env.CP_PUBLIC_URL || undefined,
    dashboardUrl: env.OAUTH_REDIRECT_URL || undefined,
    smtp: env.SMTP_HOST ? smtpFrom(env.SMTP_HOST, env) : undefined,
    providers: providersFrom(env),
    encryptionKey: env.WRENN_ENCRYPTION_KEY || undefined,
    signUp: (env.WRENN_SIGNUP || undefined) as SignUpPolicy | undefined,
    corsOrigins: env.WRENN_CORS_ORIGINS?.split(",").map((one) => one.trim()),
    trustedProxies: env.WRENN_TRUSTED_PROXIES ? Number(env.WRENN_TRUSTED_PROXIES) : undefined,
  };
}

function smtpFrom(host: string, env: Readonly<Record<string, string | undefined>>): Smtp {
  const port = Number(env.SMTP_PORT || "587");
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw bad(`SMTP_PORT is "${env.SMTP_PORT}".`, "Set it to the mail server's port, 587 or 465.");
  return {
    host,
    port,
    ...(env.SMTP_USERNAME && { username: env.SMTP_USERNAME }),
    ...(env.SMTP_PASSWORD && { password: env.SMTP_PASSWORD }),
    from: env.SMTP_FROM_EMAIL || `noreply@${host}`,
  };
}

function providersFrom(env: Readonly<Record<string, string | undefined>>): ProviderOptions[] {
  const found: ProviderOptions[] = [];
  if (env.OAUTH_GITHUB_CLIENT_ID && env.OAUTH_GITHUB_CLIENT_SECRET)
    found.push({
      id: "github",
      name: "GitHub",
      ...(env.OAUTH_GITHUB_URL && { baseUrl: env.OAUTH_GITHUB_URL.replace(/\/+$/, "") }),
      clientId: env.OAUTH_GITHUB_CLIENT_ID,
      clientSecret: env.OAUTH_GITHUB_CLIENT_SECRET,
    });
  if (env.WRENN_OIDC_ISSUER && env.WRENN_OIDC_CLIENT_ID)
    found.push({
      id: "oidc",
      name: env.WRENN_OIDC_NAME || "Single sign-on",
      issuer: env.WRENN_OIDC_ISSUER,
      clientId: env.WRENN_OIDC_CLIENT_ID,
      clientSecret: env.WRENN_OIDC_CLIENT_SECRET ?? "",
    });
  return found;
}

function originOf(url: string | undefined): string[] {
  if (!url) return [];
  if (URL.canParse(url)) return [new URL(url).origin];
  throw bad(`"${url}" is not an origin.`, "Set WRENN_CORS_ORIGINS to origins such as https://app.example.com.");
}

function origin(name: string, url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  if (/^https?:\/\//.test(url) && URL.canParse(url)) return url.replace(/\/+$/, "");
  throw bad(`${name} is "${url}".`, "Set it to an address such as https://wrenn.example.com.");
}

const bad = (message: string, remedy: string) => new WrennError("invalid_request", message, { remedy });
