import { WrennError } from "@wrenn/contract";

/** The domain of a local installation: names below `localhost` lead to this machine, and a wildcard needs two labels. */
const localDomain = "wrenn.localhost";

/** What a caller of `start` writes for HTTPS; without `listen` there is none. */
export type TlsOptions = {
  /** `HOST:PORT`; port 0 picks a free one. */
  listen?: string | undefined;
  /** Folder of the installation's certificate authority. */
  dir?: string | undefined;
  /** PEM files of the operator's own certificate for the domain and `*.domain`. */
  cert?: string | undefined;
  key?: string | undefined;
};

/** What the program reads. `domain` is what the certificate is for. */
export type TlsConfig = Readonly<{
  hostname: string;
  port: number;
  dir: string;
  domain: string;
  own: { cert: string; key: string } | undefined;
}>;

/** Checks and completes options. Throws `invalid_request` with a remedy. */
export function compileTls(options: TlsOptions | undefined, proxyDomain: string | undefined): TlsConfig | undefined {
  if (!options?.listen) return undefined;
  const [, hostname, port] = /^(.*):(\d+)$/.exec(options.listen) ?? [];
  if (port === undefined || Number(port) > 65_535)
    throw bad(`WRENN_TLS_LISTEN_ADDR is "${options.listen}".`, "Set it to HOST:PORT, such as 127.0.0.1:9726.");
  if (!options.cert !== !options.key)
    throw bad("A certificate needs its key.", "Set both WRENN_TLS_CERT and WRENN_TLS_KEY, or neither.");
  const own = options.cert && options.key ? { cert: options.cert, key: options.key } : undefined;
  if (!own && !options.dir)
    throw bad(
      "HTTPS needs a certificate.",
      "Set WRENN_DIR, in which one is kept, or WRENN_TLS_CERT and WRENN_TLS_KEY.",
    );
  return Object.freeze({
    hostname: hostname!.replace(/^\[|\]$/g, "") || "0.0.0.0",
    port: Number(port),
    dir: options.dir ?? "",
    domain: proxyDomain?.replace(/:\d+$/, "") ?? localDomain,
    own,
  });
}

/** Reads options from the environment. */
export const tlsFromEnvironment = (env: Readonly<Record<string, string | undefined>>): TlsOptions => ({
  listen: env.WRENN_TLS_LISTEN_ADDR || undefined,
  dir: env.WRENN_DIR ? `${env.WRENN_DIR}/tls` : undefined,
  cert: env.WRENN_TLS_CERT || undefined,
  key: env.WRENN_TLS_KEY || undefined,
});

const bad = (message: string, remedy: string) => new WrennError("invalid_request", message, { remedy });
