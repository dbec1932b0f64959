import type { rest } from "@wrenn/contract";
import type { CallOptions } from "./api.ts";

/** Who may reach a port, and how long its link works. */
export type OpenPortOptions = CallOptions & {
  /** Whether anybody may reach the port; left as it is when absent, private at first. */
  public?: boolean | undefined;
  /** Milliseconds until the signed link ends; rounded up to seconds; default an hour. */
  expiresMs?: number | undefined;
};

/** How a port of a sandbox is reached. */
export type PortAccess = {
  url: string;
  public: boolean;
  /** Opens a private port to a program, in the header `X-Wrenn-Traffic-Token`; it opens every port of the sandbox. */
  token: string | undefined;
  /** Opens a private port in a browser until it ends: `url` with a signature. */
  signedUrl: string | undefined;
};

/** The request's body for these options. */
export const openPortBody = ({ public: isPublic, expiresMs }: OpenPortOptions) => ({
  ...(isPublic === undefined ? {} : { public: isPublic }),
  ...(expiresMs === undefined ? {} : { expires_sec: Math.ceil(expiresMs / 1000) }),
});

/**
 * A port of the REST API in the SDK's words.
 * @internal
 */
export const portAccess = (from: rest.PortInfo): PortAccess => ({
  url: from.url,
  public: from.public,
  token: from.token,
  signedUrl: from.signed_url,
});
