/** Names of HTTP headers that cross a process boundary. */
export const headers = {
  /** A team's API key, on REST requests. */
  apiKey: "X-API-Key",
  /** A sandbox's agent token, on requests to the guest agent. */
  accessToken: "X-Access-Token",
  /** The secret that control plane and host agent of one installation share; `Authorization` is the guest agent's, for the user. */
  hostToken: "X-Wrenn-Host-Token",
  /** On requests to a host agent's `/proxy/…/49983`: the guest shall judge what its client shows, so no token is added. */
  asClient: "X-Wrenn-As-Client",
  /** On requests to a host agent's `/proxy/…`: what listens there speaks TLS, with a certificate that nobody asks for. */
  guestTls: "X-Wrenn-Guest-Tls",
  /** A registered host's own token, on the routes that only it may call. */
  registeredHost: "X-Host-Token",
  /** Opens the private ports of a sandbox; E2B clients send the same value as `e2b-traffic-access-token`. */
  trafficToken: "X-Wrenn-Traffic-Token",
  e2bTrafficToken: "e2b-traffic-access-token",
  /** Which port of which sandbox a request to a host without such a name is for; the agent's when no port is given. */
  e2bSandboxId: "E2b-Sandbox-Id",
  e2bSandboxPort: "E2b-Sandbox-Port",
  /** On `POST /v1/capsules`: asked again with the same key and body within a day, the answer is the same sandbox. */
  idempotencyKey: "Idempotency-Key",
  /** Any value; asked for beside the session cookie where a request changes something, since no other site can send it. */
  csrf: "X-Wrenn-CSRF",
  /** Given by the caller or made at the first edge; stands in every log line and answer. */
  requestId: "X-Request-Id",
} as const;

/** The guest agent's paths that only its host may call: they change a sandbox's identity, reach or running. */
const hostOnly = /^\/+(init|freeze|unfreeze|fsfreeze|fsthaw|collapse|snapshot|ports|volumes)(\/|$)/i;

/**
 * Whether a forwarder must refuse `path` of the guest agent: it is the host's alone, or hides where it leads behind
 * encoded dots or a broken escape. Read as the most lenient reader would.
 */
export function isRefusedAgentPath(path: string): boolean {
  try {
    const plain = decodeURIComponent(path);
    return hostOnly.test(plain) || /(^|[/\\])\.\.([/\\]|$)/.test(plain);
  } catch {
    return true;
  }
}

/** The guest's address of a sandbox behind its host agent: `/proxy/{sandbox}/{port}/...`. */
export const proxyPath = (sandbox: string, port: number): string => `/proxy/${sandbox}/${port}`;
