import { WrennError } from "@wrenn/contract";

/** How to reach a server; every field has a default. */
export type WrennOptions = {
  /** Base address of the server; default `WRENN_BASE_URL`, else the one `wrenn up` wrote down, else `http://127.0.0.1:9725`. */
  baseUrl?: string | undefined;
  /** API key; default `WRENN_API_KEY`, else the one `wrenn up` wrote down for this server. */
  apiKey?: string | undefined;
  /**
   * Signs requests in another way than by a key: gives the headers of each, such as the CSRF token of a browser's
   * session, whose cookie the browser sends itself. No key is looked for then.
   */
  authorize?: (() => Record<string, string>) | undefined;
  /** Replaces the runtime's `fetch`: for a proxy, or for tests. */
  fetch?: ((input: string, init?: RequestInit) => Promise<Response>) | undefined;
  /** Milliseconds one request may take, streams excepted; default 60,000. */
  requestTimeoutMs?: number | undefined;
};

/** The address a server listens on when nothing else is asked for. */
export const defaultBaseUrl = "http://127.0.0.1:9725";

/** What `wrenn up` writes to {@link profilePath} for the CLI and the SDK on the same machine. */
export type Profile = { url: string; apiKey: string };

/** Where to send requests, and the key where one was found. */
export type Endpoint = { baseUrl: string; apiKey: string | undefined };

type Environment = Readonly<Record<string, string | undefined>>;

/** The environment of Node, Bun or Deno; empty in a browser, and where Deno's permission is missing. */
function environment(): Environment {
  try {
    return (globalThis as { process?: { env?: Environment } }).process?.env ?? {};
  } catch {
    return {};
  }
}

/** Path of the profile: `$XDG_CONFIG_HOME/wrenn/profile.json`; `undefined` where there is no home folder. */
export function profilePath(env: Environment = environment()): string | undefined {
  const config = env.XDG_CONFIG_HOME || (env.HOME ? `${env.HOME}/.config` : undefined);
  return config === undefined ? undefined : `${config}/wrenn/profile.json`;
}

/** The profile of this machine; `undefined` when there is none, it cannot be read, or the runtime has no files. */
export async function readProfile(): Promise<Profile | undefined> {
  const path = profilePath();
  if (path === undefined) return undefined;
  try {
    const { readFile } = await import("node:fs/promises");
    const profile = JSON.parse(await readFile(path, "utf8")) as Partial<Profile>;
    if (typeof profile.url !== "string" || typeof profile.apiKey !== "string") return undefined;
    return { url: profile.url, apiKey: profile.apiKey };
  } catch {
    return undefined;
  }
}

function origin(text: string): string {
  try {
    const url = new URL(text);
    if (url.protocol === "http:" || url.protocol === "https:") return url.href.replace(/\/+$/, "");
  } catch {
    // Falls through to the one error below.
  }
  throw new WrennError("invalid_request", `"${text}" is not a server address`, {
    remedy: "Give an address such as http://127.0.0.1:9725 in WRENN_BASE_URL or `baseUrl`.",
  });
}

/** Reads options, environment and profile, in this order; a key of the profile goes only to the server it belongs to. */
export async function resolveEndpoint(options: WrennOptions): Promise<Endpoint> {
  const env = environment();
  if (options.authorize)
    return { baseUrl: origin(options.baseUrl || env.WRENN_BASE_URL || defaultBaseUrl), apiKey: undefined };
  const asked = options.baseUrl || env.WRENN_BASE_URL;
  const key = options.apiKey || env.WRENN_API_KEY;
  if (asked && key) return { baseUrl: origin(asked), apiKey: key };
  const profile = await readProfile();
  const baseUrl = origin(asked || profile?.url || defaultBaseUrl);
  const apiKey = key || (profile && origin(profile.url) === baseUrl ? profile.apiKey : undefined);
  return { baseUrl, apiKey };
}
